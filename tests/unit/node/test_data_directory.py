"""Who may use a data directory, and what `--fresh` may delete."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ottla.core.errors import StorageError
from ottla.core.types import NodeId, format_uuid, parse_uuid
from ottla.node.data_directory import FORMAT_VERSION, MARKER, META, SECRET, DataDirectory, read_properties

ONE = NodeId(1)


def test_a_new_directory_gets_an_identity_that_stays(tmp_path: Path) -> None:
    with DataDirectory.open(tmp_path / "a" / "b", ONE) as first:
        assert first.is_new
        secret = first.secret
    with DataDirectory.open(tmp_path / "a" / "b", ONE) as second:
        assert not second.is_new
        assert second.identity == first.identity
        assert second.secret == secret


def test_meta_properties_are_kafkas(tmp_path: Path) -> None:
    with DataDirectory.open(tmp_path, NodeId(7)) as data:
        properties = read_properties(tmp_path / META)
        assert properties.keys() == {"version", "cluster.id", "node.id", "directory.id"}
        assert (properties["version"], properties["node.id"]) == ("1", "7")
        assert parse_uuid(properties["cluster.id"]) == data.identity.cluster_id
        assert parse_uuid(properties["directory.id"]) == data.identity.directory_id


def test_the_secret_is_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        DataDirectory.open(tmp_path, ONE).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / SECRET).stat().st_mode) == 0o600


def test_a_second_node_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    with DataDirectory.open(tmp_path, ONE), pytest.raises(StorageError, match=f"process {os.getpid()}"):
        DataDirectory.open(tmp_path, ONE)
    DataDirectory.open(tmp_path, ONE).close()


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    code = (
        "import os, signal; from pathlib import Path; from ottla.node.data_directory import DataDirectory\n"
        f"data = DataDirectory.open(Path({str(tmp_path)!r}), 1); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with DataDirectory.open(tmp_path, ONE) as data:
        assert not data.is_new


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    DataDirectory.open(tmp_path, ONE).close()
    (tmp_path / MARKER).write_text(f"format.version={FORMAT_VERSION + 1}\n")
    with pytest.raises(StorageError, match="newer Ottla"):
        DataDirectory.open(tmp_path, ONE)
    (tmp_path / MARKER).write_text("format.version=1\n")
    with pytest.raises(StorageError, match="pre-release"):
        DataDirectory.open(tmp_path, ONE)
    (tmp_path / MARKER).write_text("nonsense")
    with pytest.raises(StorageError, match="damaged"):
        DataDirectory.open(tmp_path, ONE)


def test_another_nodes_or_clusters_directory_is_refused(tmp_path: Path) -> None:
    with DataDirectory.open(tmp_path, ONE) as data:
        cluster = data.identity.cluster_id
    with pytest.raises(StorageError, match="belongs to node 1, not to node 2"):
        DataDirectory.open(tmp_path, NodeId(2))
    other = parse_uuid(format_uuid(cluster)[::-1][1:] + "A")
    with pytest.raises(StorageError, match="belongs to cluster"):
        DataDirectory.open(tmp_path, ONE, cluster_id=other)


def test_a_directory_of_somebody_else_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("words")
    with pytest.raises(StorageError, match="not an Ottla data directory"):
        DataDirectory.open(tmp_path, ONE)
    with pytest.raises(StorageError, match="deletes nothing"):
        DataDirectory.open(tmp_path, ONE, fresh=True)
    assert (tmp_path / "thesis.tex").read_text() == "words"


def test_fresh_empties_what_bears_the_marker(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    with DataDirectory.open(tmp_path / "data", ONE) as data:
        before = data.identity
    (tmp_path / "data" / "topic-0").mkdir()
    (tmp_path / "data" / "topic-0" / "00000000000000000000.log").touch()
    (tmp_path / "data" / "link").symlink_to(outside)
    with DataDirectory.open(tmp_path / "data", ONE, fresh=True) as data:
        assert data.is_new
        assert data.identity.cluster_id != before.cluster_id
    assert not (tmp_path / "data" / "topic-0").exists()
    assert (outside / "kept").exists()


def test_fresh_does_not_touch_a_directory_in_use(tmp_path: Path) -> None:
    with DataDirectory.open(tmp_path, ONE) as data, pytest.raises(StorageError, match="in use"):
        DataDirectory.open(tmp_path, ONE, fresh=True)
    assert read_properties(tmp_path / META)["cluster.id"] == format_uuid(data.identity.cluster_id)


def test_an_interrupted_format_is_finished(tmp_path: Path) -> None:
    DataDirectory.open(tmp_path, ONE).close()
    (tmp_path / MARKER).unlink()
    with DataDirectory.open(tmp_path, ONE) as data:
        assert data.is_new


def test_damaged_meta_properties_are_told(tmp_path: Path) -> None:
    DataDirectory.open(tmp_path, ONE).close()
    (tmp_path / META).write_text("version=1\nnode.id=1\n")
    with pytest.raises(StorageError, match=r"meta\.properties is damaged"):
        DataDirectory.open(tmp_path, ONE)


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="is a file"):
        DataDirectory.open(tmp_path / "file", ONE)


def test_a_node_with_peers_founds_no_cluster_of_its_own_in_an_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="`ottla node replace 1`"):
        DataDirectory.open(tmp_path, ONE, others=[NodeId(2)])
    assert not (tmp_path / MARKER).exists()
    DataDirectory.open(tmp_path, ONE).close()
    DataDirectory.open(tmp_path, ONE, others=[NodeId(2)]).close()

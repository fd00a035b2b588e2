"""Which nodes a local cluster has, over starts, losses and changes."""

from pathlib import Path

import pytest

from ottla.core.errors import ConfigError, StorageError
from ottla.node.local.members import FILE, found_members, free_number, members, write_members
from ottla.node.local.spec import ClusterSpec


def formatted(directory: Path, *numbers: int) -> None:
    for number in numbers:
        (directory / f"node-{number}").mkdir()
        (directory / f"node-{number}" / "ottla.format").write_text("")


def test_without_a_file_the_directories_are_counted_and_a_gap_is_a_lost_disk(tmp_path: Path) -> None:
    assert members(tmp_path) == ()
    formatted(tmp_path, 1, 3)
    assert members(tmp_path) == (1, 2, 3)


def test_what_was_founded_is_known_when_the_last_disk_is_lost(tmp_path: Path) -> None:
    found_members(tmp_path, [1, 2, 3], fresh=False)
    formatted(tmp_path, 1, 2)
    assert members(tmp_path) == (1, 2, 3)
    found_members(tmp_path, [1, 2], fresh=False)  # somebody starts a part of it
    assert ClusterSpec(directory=tmp_path).numbers == (1, 2, 3)
    found_members(tmp_path, [1], fresh=True)
    assert members(tmp_path) == (1,)


def test_a_cluster_that_was_changed_starts_with_the_nodes_that_it_has(tmp_path: Path) -> None:
    write_members(tmp_path, [5, 2, 4])
    assert ClusterSpec(directory=tmp_path).numbers == (2, 4, 5)
    assert ClusterSpec(directory=tmp_path, nodes=3).numbers == (2, 4, 5)
    assert ClusterSpec(directory=tmp_path, nodes=3, fresh=True).numbers == (1, 2, 3)
    ClusterSpec(directory=tmp_path, without=(2,)).validate()


def test_nodes_that_the_cluster_does_not_have_are_refused(tmp_path: Path) -> None:
    write_members(tmp_path, [2, 3, 4])
    with pytest.raises(ConfigError, match="has the nodes 2, 3, 4: start it without --nodes"):
        ClusterSpec(directory=tmp_path, nodes=4).validate()
    with pytest.raises(ConfigError, match="--without 1: the cluster has 2, 3, 4"):
        ClusterSpec(directory=tmp_path, without=(1,)).validate()


def test_a_number_is_free_when_no_data_lie_about(tmp_path: Path) -> None:
    formatted(tmp_path, 1)
    assert free_number(tmp_path, [2, 3]) == 4
    assert free_number(tmp_path, [2, 3, 4, 5]) is None


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{")
    with pytest.raises(StorageError, match=r"nodes\.json is damaged"):
        members(tmp_path)

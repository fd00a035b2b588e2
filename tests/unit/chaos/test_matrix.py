"""The matrix: what its exit code says, and that every fault is in some row."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from chaos import matrix
from chaos.nemeses.catalog import NEMESES
from chaos.rows import ROWS, Row
from ottla.testing.chaos.clients_nemesis import CLIENT_NEMESES
from ottla.testing.chaos.result import Result
from ottla.testing.chaos.schedule import kinds


def tried(monkeypatch: pytest.MonkeyPatch, directory: Path, *, without: str = "", broken: str = "") -> tuple[int, str]:
    """Exit code and output for two rows with two clients; `without`: the run that gives no result."""

    def one(row: Row, client: str, cluster: str, seconds: float, seed: int, path: Path, commit: str) -> None:
        if path.stem == without:
            return
        result = Result(
            cluster=cluster, client=client, faults=list(row.faults), workloads=["append"], seed=seed, seconds=seconds,
            commit=commit, nodes=3,
        )  # fmt: skip
        result.row = row.name
        if path.stem == broken:
            result.stuck = ["a group"]
        result.save(path)

    monkeypatch.setattr(matrix, "_one", one)
    arguments = ["--rows", "kill,pause", "--clients", "ottla,confluent", "--results", str(directory), "--for", "1s"]
    told = CliRunner().invoke(matrix.main, arguments, standalone_mode=False)
    assert told.exception is None, told.exception
    return told.return_value, told.output


def test_a_clean_matrix_succeeds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert tried(monkeypatch, tmp_path)[0] == 0


def test_what_is_stuck_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert tried(monkeypatch, tmp_path, broken="ottla-pause-confluent")[0] == 1


def test_a_run_without_a_result_fails_and_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, output = tried(monkeypatch, tmp_path, without="ottla-kill-confluent")
    assert code == 1
    assert "1 runs gave NO RESULT: ottla-kill-confluent" in output


def test_every_fault_is_in_a_row() -> None:
    done = {kind for row in ROWS.values() for kind in kinds(row.faults)}
    assert done == {*NEMESES, *CLIENT_NEMESES}

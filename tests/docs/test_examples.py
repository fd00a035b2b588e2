"""Runs the examples of README and docs, block by block, each page against a cluster of its own.

A block is run unless the line above it says `<!-- not run: REASON -->`. The addresses of a default cluster stand in the
examples; here they are replaced by those of the page's cluster. Blocks of one page run in order and share a directory.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from ottla.testing.cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?P<before>[^\n]*)\n+```(?P<language>sh|python)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
TIMEOUT_S = 60


@dataclass(frozen=True)
class Example:
    """One block of a page."""

    page: Path
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def examples() -> Iterator[Example]:
    for page in PAGES:
        text = page.read_text()
        for block in BLOCK.finditer(text):
            if not block["before"].startswith("<!-- not run: "):
                line = text.count("\n", 0, block.start("code")) + 1
                yield Example(page, line, block["language"], block["code"])


@pytest.fixture(scope="module")
def cluster_of(ottla_cluster_factory: Callable[..., Cluster]) -> Callable[[Path], Cluster]:
    """A cluster for each page, as its topics' names are its own."""
    return cache(lambda page: ottla_cluster_factory())


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Path]:
    return {page: tmp_path_factory.mktemp(page.stem) for page in PAGES}


@pytest.mark.parametrize("example", list(examples()), ids=str)
def test_example(example: Example, cluster_of: Callable[[Path], Cluster], directories: dict[Path, Path]) -> None:
    cluster = cluster_of(example.page)
    code = example.code.replace("localhost:9092", cluster.bootstrap)
    code = code.replace("localhost:10092", cluster.grpc)
    code = code.replace("ottla-data/", f"{cluster.directory}/")
    directory = directories[example.page]
    if example.language == "sh":
        command = ["bash", "-euo", "pipefail", "-c", code]
    elif "def test_" in code:
        (directory / "test_it.py").write_text(code)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-o",
            "asyncio_mode=auto",
            "test_it.py",
        ]
    else:
        command = [sys.executable, "-c", code]
    environment = {
        **os.environ,
        "OTTLA_SERVER": cluster.grpc,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, f"{code}\n--- printed\n{done.stdout}\n--- and\n{done.stderr}"

"""What a run of the suite says: pytest's report on one side, the failures that are known on the other."""

import tomllib
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PASSED, FAILED, ERROR, SKIPPED = "passed", "failed", "error", "skipped"
_TAGS = {"failure": FAILED, "error": ERROR, "skipped": SKIPPED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`counts`: tests by outcome. The three lists hold names of tests; the suite is as expected when they are empty."""

    counts: Mapping[str, int]
    unexpected: list[str]
    mended: list[str]
    missing: list[str]

    @property
    def is_as_expected(self) -> bool:
        return not (self.unexpected or self.mended or self.missing)


def judge(outcomes: Mapping[str, str], known: Mapping[str, str]) -> Verdict:
    """`outcomes`: of each test; `known`: of each test that does not pass, the reason."""
    return Verdict(
        counts=Counter(outcomes.values()),
        unexpected=sorted(name for name, it in outcomes.items() if it in (FAILED, ERROR) and name not in known),
        mended=sorted(name for name in known if outcomes.get(name) == PASSED),
        missing=sorted(name for name in known if outcomes.get(name, SKIPPED) == SKIPPED),
    )


def read_known(path: Path) -> dict[str, str]:
    """The failures that are known, with their reasons."""
    with path.open("rb") as file:
        failures: dict[str, str] = tomllib.load(file)["failures"]
    return failures


def read_outcomes(report: Path) -> dict[str, str]:
    """Names are `file.py::test` or `file.py::Class::test`, as pytest takes them. A test may fail, and its end, too."""
    outcomes: dict[str, str] = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        module, *classes = _split(case.get("classname", ""))
        name = "::".join([f"{module}.py", *classes, case.get("name", "")])
        outcome = next((_TAGS[child.tag] for child in case if child.tag in _TAGS), PASSED)
        if outcomes.get(name, PASSED) == PASSED:
            outcomes[name] = outcome
    return outcomes


def _split(classname: str) -> list[str]:
    """`test.integration.test_x.TestY` is class TestY of test_x.py."""
    words = classname.split(".")
    start = next((at for at, word in enumerate(words) if word.startswith("test_")), 0)
    return words[start:]

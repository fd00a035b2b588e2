"""The known failures hold in both directions."""

from pathlib import Path

from tests.interop.kafka_python.verdict import judge, read_known, read_outcomes

REPORT = """<testsuites><testsuite>
<testcase classname="test.integration.test_a" name="test_good"/>
<testcase classname="test.integration.test_a" name="test_bad[x]"><failure message="no"/></testcase>
<testcase classname="test.integration.test_a" name="test_bad[x]"/>
<testcase classname="test.integration.test_b.TestTls" name="test_start"><error message="no"/></testcase>
<testcase classname="test.integration.test_b.TestTls" name="test_idle"><skipped/></testcase>
</testsuite></testsuites>"""


def test_outcomes_bear_the_names_that_pytest_takes(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(REPORT)
    assert read_outcomes(tmp_path / "report.xml") == {
        "test_a.py::test_good": "passed",
        "test_a.py::test_bad[x]": "failed",
        "test_b.py::TestTls::test_start": "error",
        "test_b.py::TestTls::test_idle": "skipped",
    }


def test_known_failures_are_expected() -> None:
    verdict = judge({"a": "passed", "b": "failed", "c": "error", "d": "skipped"}, {"b": "why", "c": "why"})
    assert verdict.is_as_expected
    assert verdict.counts == {"passed": 1, "failed": 1, "error": 1, "skipped": 1}


def test_other_failures_are_not() -> None:
    assert judge({"a": "failed", "b": "error"}, {}).unexpected == ["a", "b"]


def test_known_failure_that_passes_leaves_the_list() -> None:
    verdict = judge({"a": "passed"}, {"a": "why"})
    assert (verdict.mended, verdict.is_as_expected) == (["a"], False)


def test_known_failure_has_to_run() -> None:
    assert judge({"b": "skipped"}, {"a": "why", "b": "why"}).missing == ["a", "b"]


def test_every_known_failure_has_a_reason() -> None:
    assert all(read_known(Path(__file__).with_name("expected.toml")).values())

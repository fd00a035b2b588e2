"""`ottla group`: what its flags mean."""

import pytest
from click.testing import CliRunner

from ottla.cli.durations import parse_duration_s, spoken
from ottla.cli.group import group
from ottla.cli.group_reset import parse_topics
from ottla.cli.offset_file import parse_offsets
from ottla.cli.states import GROUP_STATES
from ottla.coordinators.groups.state import GroupState
from ottla.core.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90m", 5400), ("2h", 7200), ("1d12h", 129_600), ("30s", 30), ("PT90M", 5400), ("P1DT2H", 93_600)],
)
def test_durations_are_read_in_both_forms(text: str, seconds: float) -> None:
    assert parse_duration_s(text, "--by-duration") == seconds


@pytest.mark.parametrize("text", ["", "P", "2", "h", "2w", "-2h"])
def test_other_durations_are_refused_with_examples(text: str) -> None:
    with pytest.raises(ConfigError, match="1d12h"):
        parse_duration_s(text, "--by-duration")


def test_topics_are_named_whole_or_by_partition() -> None:
    assert parse_topics(("a", "b:0,2", "b:1")) == {"a": None, "b": {0, 1, 2}}
    assert parse_topics(("a", "a:1")) == {"a": None}
    with pytest.raises(ConfigError, match="--topic a:x"):
        parse_topics(("a:x",))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0s"), (9.94, "9.9s"), (75, "1m15s"), (3600, "1h0m"), (90_061, "1d1h")]
)
def test_lags_are_told_in_their_two_largest_units(seconds: float, text: str) -> None:
    assert spoken(seconds) == text


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--all-topics"], "just one of --to-earliest"),
        (["--all-topics", "--to-earliest", "--to-latest"], "one of --to-earliest"),
        (["--to-earliest"], "--all-topics"),
        (["--all-topics", "--topic", "a", "--to-earliest"], "--all-topics"),
        (["--all-topics", "--to-datetime", "yesterday"], "2026-01-31T12:00:00Z"),
        (["--all-topics", "--to-current", "--to-latest"], "one of --to-earliest"),
        (["--all-topics", "--from-file", "-"], "--from-file says itself which partitions"),
    ],
)
def test_a_reset_says_where_to_and_of_what(arguments: list[str], reason: str) -> None:
    done = CliRunner().invoke(group, ["reset-offsets", "g", *arguments], input="a,0,1\n")
    assert isinstance(done.exception, ConfigError)
    assert reason in str(done.exception)


def test_states_are_those_that_groups_have_and_others_are_refused() -> None:
    assert {state.value for state in GroupState} < set(GROUP_STATES)
    done = CliRunner().invoke(group, ["list", "--state", "Stabel"])
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception).startswith("--state Stabel: there is no such state, only Empty, ")


def test_files_hold_offsets_of_one_group_or_of_several() -> None:
    assert parse_offsets(["a,0,1", "", '"b,c",2,3'], "g", "file") == {("a", 0): 1, ("b,c", 2): 3}
    assert parse_offsets(["g,a,0,1", "other,a,0,2"], "g", "file") == {("a", 0): 1}


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["a,0,1", "a,0"], "line 2"),
        (["a,0,-1"], "line 1"),
        (["a,x,1"], "line 1"),
        ([",0,1"], "line 1"),
        (["a,0,9223372036854775808"], "line 1"),
        (["a,2147483648,0"], "line 1"),
        (["a,0,1", "a,0,2"], "another offset before"),
        (["other,a,0,1"], "no offsets for g"),
        ([], "no offsets for g"),
    ],
)
def test_other_files_of_offsets_are_refused(lines: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse_offsets(lines, "g", "file")


def test_help_ends_with_examples_on_lines_of_their_own() -> None:
    text = CliRunner().invoke(group, ["lag", "--help"]).output
    assert "\n    ottla group lag billing --topic orders --json\n" in text


@pytest.mark.parametrize("arguments", [["lag", ""], ["reset-offsets", "", "--all-topics", "--to-earliest"]])
def test_a_group_without_a_name_is_refused_before_anybody_is_asked(arguments: list[str]) -> None:
    told = CliRunner().invoke(group, arguments)
    assert told.exit_code == 2
    assert "ottla group list" in told.output

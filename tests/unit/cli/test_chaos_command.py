"""What `ottla chaos` refuses before it starts anything."""

import pytest
from click.testing import CliRunner

from ottla.cli.chaos import chaos
from ottla.core.errors import ConfigError


@pytest.mark.parametrize("words", [["run"], ["check", "--bootstrap", "localhost:1"]])
def test_a_run_that_lasts_no_time_is_refused(words: list[str]) -> None:
    told = CliRunner().invoke(chaos, [*words, "--for", "0s"], standalone_mode=False)
    assert isinstance(told.exception, ConfigError), told.output
    assert str(told.exception) == "--for 0s: there is nothing to see in no time; write e.g. 30s, 90m or 2h"

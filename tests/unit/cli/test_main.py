"""The command as a whole: its help, its exit codes, what it loads."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from ottla.cli import main as entry
from ottla.cli.exit_codes import Exit, exit_code
from ottla.cli.main import _COMMANDS, cli
from ottla.client.errors import ClientError
from ottla.core.errors import ApiError, ConfigError, CorruptLog, DecodeError, ErrorCode, OttlaError, UnsupportedMagic


def ottla(*arguments: str, **options: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "ottla", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, **options)  # type: ignore[call-overload, no-any-return]


def test_help_is_quick() -> None:
    """Counted in processor time, which a busy machine changes little."""
    best = min(_help_seconds() for _ in range(3))
    assert best < 0.25


def _help_seconds() -> float:
    process = subprocess.Popen([sys.executable, "-m", "ottla", "--help"], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == Exit.DONE
    return usage.ru_utime + usage.ru_stime


def test_help_loads_no_command_and_no_library_but_click() -> None:
    code = (
        "import sys\nfrom ottla.cli.main import main\n"
        "try:\n main(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('rich', 'grpc', 'asyncio', 'structlog', 'uvloop')"
        " or m.startswith(('ottla.cli.up', 'ottla.client', 'ottla.node'))], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("name", list(_COMMANDS))
def test_every_command_has_help_and_says_the_same_in_the_overview(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    help_text = (command.help or "").split("\n\n")[0].replace("\n", " ")
    assert help_text
    if isinstance(command, click.Group):
        assert help_text == _COMMANDS[name][1]


def test_an_unknown_command_is_wrong_usage() -> None:
    done = ottla("upp")
    assert done.returncode == Exit.USAGE
    assert "No such command 'upp'" in done.stderr


def test_a_wrong_configuration_is_told_in_one_line() -> None:
    done = ottla("config", "show", "--set", "node_id=zero")
    assert done.returncode == Exit.USAGE
    assert done.stderr == "ottla: node_id = 'zero' (flag): write a whole number\n"


def test_too_many_nodes_are_refused_with_the_reason(tmp_path: Path) -> None:
    done = ottla("up", "--nodes", "6", "--dir", str(tmp_path))
    assert done.returncode == Exit.USAGE
    assert "1 to 5 nodes" in done.stderr


def test_nobody_at_home_is_told_with_the_remedy() -> None:
    done = ottla("topic", "list", "--server", "localhost:1", "--timeout", "1")
    assert done.returncode == Exit.UNREACHABLE
    assert "localhost:1" in done.stderr
    assert "ottla up" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_went_away_is_no_error() -> None:
    more_than_a_pipe_holds = (
        "import click; from ottla.cli import main as entry; "
        "entry.LazyGroup.get_command = lambda *_: click.Command('much', callback=lambda: "
        "click.echo('much\\n' * 10**5)); "
        "entry.main(['much'])"
    )
    command = f'{sys.executable} -c "{more_than_a_pipe_holds}" | head -1; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["much", "0"]
    assert done.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_for_the_installed_command(shell: str) -> None:
    assert "_OTTLA_COMPLETE" in ottla("completion", shell).stdout


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), Exit.USAGE),
        (ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION), Exit.NOT_FOUND),
        (ClientError(ErrorCode.TOPIC_ALREADY_EXISTS), Exit.EXISTS),
        (ClientError(ErrorCode.REQUEST_TIMED_OUT), Exit.UNREACHABLE),
        (ClientError(ErrorCode.INVALID_CONFIG), Exit.USAGE),
        (ClientError(ErrorCode.POLICY_VIOLATION), Exit.FAILED),
        (DecodeError("x"), Exit.DAMAGED),
        (UnsupportedMagic("x"), Exit.DAMAGED),
        (CorruptLog("x", 1, "y", "z"), Exit.DAMAGED),
        (OttlaError("x"), Exit.FAILED),
    ],
)
def test_exit_codes_tell_errors_apart(error: Exception, code: Exit) -> None:
    assert exit_code(error) == code


def test_errors_of_the_operating_system_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/data")

    monkeypatch.setattr(entry.cli, "main", fail)
    with pytest.raises(SystemExit) as ended:
        entry.main([])
    assert ended.value.code == Exit.FAILED
    assert capsys.readouterr().err == "ottla: [Errno 13] Permission denied: '/data'\n"

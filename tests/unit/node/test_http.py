"""The HTTP port towards clients that do not behave."""

import socket

import pytest
from structlog.testing import capture_logs

from ottla.node.http import _make_server


@pytest.mark.parametrize(("error", "level"), [(BrokenPipeError("gone"), "debug"), (ValueError("ours"), "error")])
def test_a_failed_request_is_a_line_in_the_log_and_no_traceback_on_the_terminal(
    error: Exception, level: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server = _make_server(socket.create_server(("127.0.0.1", 0)), None)

    def fail(*_: object) -> None:
        raise error

    server.finish_request, server.shutdown_request = fail, lambda _: None
    try:
        with capture_logs() as logs:
            server.process_request_thread(None, ("127.0.0.1", 1))
    finally:
        server.server_close()
    assert [line["log_level"] for line in logs] == [level]
    assert capsys.readouterr().err == ""

"""The HTTP port towards clients that do not behave."""

import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from structlog.testing import capture_logs

from ottla.node.certificates import Certificates
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


def test_figures_are_encrypted_where_a_context_is_given(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    certificates.create(["localhost"], 1)
    pair = certificates.node(1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)

    def application(_: Any, start: Any) -> Iterable[bytes]:
        start("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    server = _make_server(listening, application, lambda: context)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        trusting = ssl.create_default_context(cafile=str(certificates.ca))
        with urllib.request.urlopen(f"https://localhost:{port}/", timeout=5, context=trusting) as answer:
            assert answer.read() == b"ok"
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

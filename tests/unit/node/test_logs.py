"""What a node's log lines look like."""

import json
import subprocess
import sys

import pytest

LINES = """
import logging
from ottla.node.logs import configure
configure("info", {form!r}{of_node})
import structlog
log = structlog.get_logger("x")
log.debug("silent")
log.info("ready", node=1, dir="/a b", empty="", listener="PLAINTEXT")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
logging.getLogger("other").warning("hm %s", 1)
"""


def lines(form: str, of_node: str = "") -> list[str]:
    code = LINES.format(form=form, of_node=of_node)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stderr.splitlines()


def test_console_lines_are_for_people() -> None:
    first, second, *traceback, last = lines("console")
    assert first.split(" ", 1)[1] == "info    ready node=1 dir='/a b' empty='' listener=PLAINTEXT"
    assert second.split(" ", 1)[1] == "error   failed"
    assert traceback[-1] == "ZeroDivisionError: division by zero"
    assert last.split(" ", 1)[1] == "warning hm 1 logger=other"


def test_json_lines_are_for_programs() -> None:
    first, second, third = (json.loads(line) for line in lines("json"))
    assert (first["event"], first["level"], first["node"]) == ("ready", "info", 1)
    assert "ZeroDivisionError" in second["exception"]
    assert (third["event"], third["level"], third["logger"]) == ("hm 1", "warning", "other")


def test_each_line_of_a_node_names_it_as_several_may_write_to_one_file() -> None:
    first, second, *_, last = lines("console", ", 7")
    assert first.endswith(" listener=PLAINTEXT")
    assert "node=1" in first  # what a line says itself stays
    assert second.endswith("failed node=7")
    assert last.endswith("logger=other node=7")
    assert [json.loads(line)["node"] for line in lines("json", ", 7")] == [1, 7, 7]


@pytest.mark.parametrize("module", ["rich", "pygments"])
def test_logging_loads_no_renderer_for_terminals(module: str) -> None:
    code = "from ottla.node.logs import configure; configure('info', 'console'); import sys; "
    code += f"print({module!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"

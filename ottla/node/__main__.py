"""`python -m ottla.node`: a node started by `ottla up`, which hands over its settings as one JSON argument.

It skips the command line's imports, so that a node is ready sooner and stays smaller.
"""

import json
import os
import sys
from pathlib import Path

from ottla.core.errors import OttlaError
from ottla.node.config import Layer, NodeConfig
from ottla.node.process import EXIT_FAILED, Parent, report_failure, run


def main() -> int:
    """Run the node; its exit code."""
    handed = json.loads(sys.argv[1])
    parent = Parent(pid=handed["parent_pid"], lifeline_fd=handed["lifeline_fd"], status_fd=handed["status_fd"])
    flags = Layer(origin="flag", node=handed["node"], kafka=handed["kafka"])
    file = Path(handed["file"]) if handed["file"] else None
    try:
        config = NodeConfig.load(flags=flags, file=file)
    except OttlaError as error:
        report_failure(parent, error)
        return EXIT_FAILED
    return run(config, fresh=handed["fresh"], parent=parent)


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # The node has written and closed everything; taking the interpreter apart would cost 0.1 s more.
    os._exit(code)

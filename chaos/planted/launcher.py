"""`python -m chaos.planted.launcher BUG -- COMMAND`: a node that has a planted bug.

These words stand before the command of each node (`python -m ottla.node SETTINGS`). The bugs are those that the
simulator must find (`chaos.planted.plants`), planted here into the production process itself.
"""

import runpy
import sys

from chaos.planted.plants import PLANTS

_NODE = "ottla.node"


def words(bug: str) -> list[str]:
    """What stands before a node's command."""
    return [sys.executable, "-m", "chaos.planted.launcher", bug, "--"]


def main() -> None:
    """Become the node."""
    bug, _, _, _, module, settings = sys.argv[1:]
    if module != _NODE:
        raise SystemExit(f"only nodes are launched with a bug, not {module}")
    with PLANTS[bug]():
        sys.argv = [module, settings]
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

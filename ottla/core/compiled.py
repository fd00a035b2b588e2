"""Whether the hot modules of this installation are compiled to machine code: see `setup.py`."""

from importlib.util import find_spec


def is_compiled() -> bool:
    """Looks where one of those modules would come from, and does not load it."""
    spec = find_spec("ottla.core.types")
    return spec is not None and spec.origin is not None and not spec.origin.endswith(".py")


def build_name() -> str:
    """What stands beside a version, and beside a figure that was measured: `compiled` or `interpreted`."""
    return "compiled" if is_compiled() else "interpreted"

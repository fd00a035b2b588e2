"""What a supervisor asks a node over the lifeline: single bytes, apart so that neither side loads the other's code."""

from typing import Final

ASK_STANDING: Final = b"?"
"""Say how you stand in your cluster (`standing.Standing`), in one event."""
STOP_TOGETHER: Final = b"!"
"""The whole cluster is about to stop: there is nobody to hand over to. A signal to stop follows."""

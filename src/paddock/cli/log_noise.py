"""What libraries say that nobody who runs Paddock can use, kept out of terminals and logs. Each is told by who says it, and
how; whatever else they say stays."""

from __future__ import annotations

import logging
import os
import re
import warnings

NOISE = {
    # What migrations are run by; which are run is told beside it.
    "alembic.runtime.plugins": r"setup plugin ",
    "alembic.runtime.migration": r"Context impl |Will assume ",
    # Kernels for GPUs, which come with a build for CPUs too and cannot be loaded there.
    "torchao": r"Failed to load \S*_C(_mxfp8|_cutlass_\w+)?\.\S*so: Could not load this library",
    "torchao.kernel.intmm": r"Warning: Detected no triton",
    # torchao 0.18 tells torch 2.13 something that it knows by itself.
    "torch.utils._pytree": r".* is an Enum subclass and is now natively supported by torch\.compile",
}
"""A logger, and how the lines begin that it may keep to itself."""


class _Without(logging.Filter):
    def __init__(self, beginning: str) -> None:
        super().__init__()
        self._beginning = re.compile(beginning)

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.WARNING or self._beginning.match(record.getMessage()) is None


_FILTERS = {name: _Without(beginning) for name, beginning in NOISE.items()}


def leave_out() -> None:
    """In this process, and for progress bars in those that it starts."""
    for name, noise in _FILTERS.items():
        logging.getLogger(name).addFilter(noise)
    # PEFT 0.21 asks transformers 5 by an older name.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    # Of loading and writing weights, which redraw themselves line by line in a log; transformers reads this, too.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

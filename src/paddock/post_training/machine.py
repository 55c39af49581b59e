"""What this machine can train with, told without loading tensors: its devices and the optional packages."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from paddock.settings import Settings

_DEVICE_FILES = (Path("/dev/nvidiactl"), Path("/dev/kfd"))
"""What the drivers of NVIDIA and of AMD put there."""


def may_have_gpu(settings: Settings) -> bool:
    """Whether training may run on a GPU. A driver without a device is found out by the job, which asks torch."""
    if settings.device == "auto":
        return any(file.exists() for file in _DEVICE_FILES)
    return settings.device == "cuda"


def missing(*packages: str) -> list[str]:
    """Those of the packages, by their modules' names, that are not installed here."""
    return [package for package in packages if find_spec(package) is None]


def leave_out(*packages: str) -> None:
    """Keep packages out of this process, as if they were not installed: PEFT imports what it finds, needed or not, which
    costs a second, and warnings about libraries of CUDA."""
    for package in packages:
        sys.modules.setdefault(package, None)  # type: ignore[arg-type]  # the import system's own sign for "not there"

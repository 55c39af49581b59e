"""Activations that wait for the backward pass elsewhere: on a GPU's host in pinned memory, on a CPU in a file.

They come back bit for bit, in the same layout, so that nothing else changes. Weights stay where they are.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import Parameter

from paddock.post_training import allocation

_LEAST_BYTES = 1024
_ALIGNMENT = 64
"""Bytes; what torch aligns its own allocations to."""


class _Place(Protocol):
    def put(self, flat: Tensor) -> Any: ...

    def get(self, kept: Any, into: Tensor) -> None: ...

    def clear(self) -> None:
        """Nothing that was put there will be asked for again."""


@dataclass(eq=False)
class _Offloaded:
    """One tensor that is away: the memory that it spans, and how it lies in it. Operations that saved the same tensor share
    it."""

    original: StorageWeakRef
    kept: Any
    num: int
    lead: int
    size: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


class Offload:
    """Takes what autograd saves, and gives it back."""

    def __init__(self, model: Any, device: torch.device, folder: Path) -> None:
        """`folder` is for the file; the file has no name, and is gone with the process."""
        self._model = model
        self._place: _Place = _HostMemory() if device.type == "cuda" else _File(folder)
        self._away: WeakValueDictionary[Any, _Offloaded] = WeakValueDictionary()
        self._weights: set[int] = set()
        self._num_bytes = 0
        self.peak_bytes = 0
        """The most that was away at once."""

    @contextmanager
    def saving(self) -> Iterator[None]:
        """What is saved inside for the backward pass goes away."""
        if not self._away:
            self._place.clear()
            self._num_bytes = 0
        # Weights that are split among workers are put together elsewhere each time.
        here = (p for p in self._model.parameters() if type(p) is Parameter)
        self._weights = {p.untyped_storage().data_ptr() for p in here}
        with saved_tensors_hooks(self._pack, self._unpack):
            yield

    def _pack(self, tensor: Tensor) -> Any:
        storage = tensor.untyped_storage() if type(tensor) in (Tensor, Parameter) else None
        if storage is None or storage.nbytes() < _LEAST_BYTES or storage.data_ptr() in self._weights:
            return tensor
        original = StorageWeakRef(storage)
        size, stride, offset = tensor.size(), tensor.stride(), tensor.storage_offset()
        key = (original.cdata, size, stride, offset, tensor.dtype, tensor._version)
        away = self._away.get(key)
        if away is not None and not away.original.expired():
            return away
        # From its first element to its last, with whatever lies between.
        num = 1 + sum((length - 1) * step for length, step in zip(size, stride, strict=True)) if tensor.numel() else 0
        num_bytes = num * tensor.element_size()
        if not _LEAST_BYTES <= num_bytes <= 2 * tensor.numel() * tensor.element_size():
            return tensor
        kept = self._place.put(tensor.detach().as_strided((num,), (1,), offset))
        lead = offset * tensor.element_size() % _ALIGNMENT // tensor.element_size()
        away = _Offloaded(original, kept, num, lead, size, stride, tensor.dtype, tensor.device)
        self._away[key] = away
        self._num_bytes += num_bytes
        self.peak_bytes = max(self.peak_bytes, self._num_bytes)
        return away

    def _unpack(self, packed: Any) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        # At the same distance from an aligned address: some kernels sum in another order elsewhere.
        flat = torch.empty(packed.lead + packed.num, dtype=packed.dtype, device=packed.device)[packed.lead :]
        self._place.get(packed.kept, flat)
        return flat.as_strided(packed.size, packed.stride)


class _HostMemory:
    """The memory of the machine that a GPU is in."""

    def put(self, flat: Tensor) -> Tensor:
        return torch.empty_like(flat, device="cpu", pin_memory=True).copy_(flat, non_blocking=True)

    def get(self, kept: Tensor, into: Tensor) -> None:
        into.copy_(kept, non_blocking=True)

    def clear(self) -> None: ...


def _memory(flat: Tensor) -> memoryview:
    """A tensor's bytes. Not by way of numpy, from which on torch would not let the memory be resized, as sharding does."""
    return memoryview((ctypes.c_ubyte * flat.nbytes).from_address(flat.data_ptr())).cast("B")


class _File:
    """A file, written and read in order of need; its cached pages are the system's to give away."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 — open as long as the job
        self._end = 0
        allocation.give_back_freed()

    def put(self, flat: Tensor) -> int:
        start = self._end
        content = _memory(flat)
        while content:
            written = os.pwrite(self._file.fileno(), content, self._end)
            self._end += written
            content = content[written:]
        return start

    def get(self, kept: int, into: Tensor) -> None:
        content = _memory(into)
        while content:
            read = os.preadv(self._file.fileno(), [content], kept)
            assert read
            kept += read
            content = content[read:]

    def clear(self) -> None:
        self._end = 0

"""The adapters over one base, by PEFT, which is imported when the first of them comes: a model without any starts sooner."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peft import PeftModel


class Adapters:
    """Those that are loaded over a base, each under a name of its own; one of them is on at a time, or none."""

    def __init__(self, base: Any) -> None:
        """`base` is the library's model. Its layers take adapters in where they stand."""
        self._base = base
        self._peft_model: PeftModel | None = None
        self._num_ever = 0

    def load(self, folder: Path) -> str:
        """Read the adapter in a folder. Returns its name."""
        name = f"adapter-{self._num_ever}"
        self._num_ever += 1
        if self._peft_model is None:
            from peft import PeftModel  # with bitsandbytes, where that is installed: two seconds

            self._peft_model = PeftModel.from_pretrained(self._base, folder, adapter_name=name)
        else:
            self._peft_model.load_adapter(folder, adapter_name=name)
        self._base.eval()  # an adapter arrives in training mode, its dropout on
        return name

    def remove(self, name: str) -> None:
        """Let go of an adapter."""
        assert self._peft_model is not None
        self._peft_model.delete_adapter(name)

    @contextlib.contextmanager
    def using(self, name: str | None) -> Iterator[Any]:
        """The base with one adapter on, or with none."""
        if name is not None:
            assert self._peft_model is not None
            self._peft_model.set_adapter(name)
            yield self._base
        elif self._peft_model is not None:
            with self._peft_model.disable_adapter():
                yield self._base
        else:
            yield self._base

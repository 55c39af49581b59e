"""A real engine process and small real models for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from paddock.inference.engine import Model
from paddock.inference.engine_host import EngineHost
from paddock.inference.local import LocalEngine
from paddock.storage.data_dir import DataDir

T = TypeVar("T")


@dataclass(frozen=True)
class LocalWorld:
    """`tiny` and `checkpoint` (an adapter over it) generate, the others rank."""

    host: EngineHost
    data_dir: DataDir
    tiny: Model
    checkpoint: Model
    minilm: Model
    cross_encoder: Model

    def ask(self, call: Callable[[LocalEngine], Coroutine[Any, Any, T]], **options: Any) -> T:
        """What `call` returns, made with a client on an event loop of its own."""

        async def with_client() -> T:
            engine = LocalEngine(self.data_dir.engine_socket, self.data_dir.checkpoints, **options)
            try:
                return await call(engine)
            finally:
                await engine.close()

        return asyncio.run(with_client())

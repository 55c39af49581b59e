"""A real engine process and small real models for it, and the routes of inference alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import FastAPI

from paddock.egress import Egress
from paddock.inference import routes
from paddock.inference.engine import Engine, Model
from paddock.inference.engine_host import EngineHost
from paddock.inference.inference import Inference
from paddock.inference.local import LocalEngine
from paddock.inference.remote import RemoteEngine
from paddock.inference.store import ModelStore
from paddock.server import answers
from paddock.settings import Provider, RemoteConfig, Settings
from paddock.storage.data_dir import DataDir
from paddock.storage.database import Database

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
            engine = LocalEngine(self.data_dir.engine_socket, self.data_dir.checkpoints, Egress(()), **options)
            try:
                return await call(engine)
            finally:
                await engine.close()

        return asyncio.run(with_client())


def make_app(settings: Settings, database: Database, engines: dict[str, Engine]) -> FastAPI:
    """The routes of this slice alone, over real resources."""
    app = FastAPI()
    app.state.settings = settings
    app.state.inference = Inference(settings, ModelStore(database), engines)
    app.include_router(routes.router)
    answers.install(app)
    return app


def remote_engine(base_url: str, **config: Any) -> RemoteEngine:
    """The provider `lab`, on somebody's server."""
    remote = RemoteConfig(base_url=base_url, **config)
    return RemoteEngine(Provider(provider_id="lab", provider_type="remote::openai", config=remote))

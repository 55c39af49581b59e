"""How the slices' routes read a request: strict JSON bodies, ids in paths, and the server's resources.

FastAPI parses with Python's `json`, which takes NaN and any nesting; `StrictRoute` has `strict_json` do it.
Errors, limits and the answers' shape belong to `server/`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar
from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel

from paddock import strict_json, wire
from paddock.errors import ClientLeftError, InvalidRequestError, PaddockError

Result = TypeVar("Result")
Parameters = ParamSpec("Parameters")

EXTENSION: dict[str, Any] = {"x-paddock-extension": True}
"""`openapi_extra` of a route that the contract does not have."""


_PARSED_IN_PLACE_BYTES = 64 * 1024

_one_at_a_time: RunVar[CapacityLimiter] = RunVar("one_at_a_time")


async def parsed(body: bytes, parse: Callable[..., Result], *arguments: Any) -> Result:
    """What `parse(body, …)` returns. Long bodies are parsed beside the event loop, and one at a time: the interpreter's
    lock lets no two go on at once, and each more that waits for it has the event loop wait longer."""
    if len(body) <= _PARSED_IN_PLACE_BYTES:
        return parse(body, *arguments)
    try:
        limiter = _one_at_a_time.get()
    except LookupError:
        _one_at_a_time.set(limiter := CapacityLimiter(1))
    return await to_thread.run_sync(parse, body, *arguments, limiter=limiter)


class StrictRequest(Request):
    """A request whose `json()` refuses what JSON does not know. `row_fields` of its body hold rows."""

    row_fields: Collection[str] = ()

    async def json(self) -> Any:
        body = await self.body()
        try:
            return await parsed(body, strict_json.parse, self.row_fields)
        except PaddockError as error:
            # FastAPI passes on an HTTPException unchanged and hides every other error behind one of its own.
            raise HTTPException(error.status, detail=error) from error


class StrictRoute(APIRoute):
    """A route that reads its body through `StrictRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        if self.endpoint in _direct:
            return self._handle_directly
        handle = super().get_route_handler()
        schema = None if self.body_field is None else self.body_field.field_info.annotation
        row_fields = wire.row_fields(schema) if isinstance(schema, type) and issubclass(schema, BaseModel) else ()

        async def strict(request: Request) -> Response:
            strict_request = StrictRequest(request.scope, request.receive)
            strict_request.row_fields = row_fields
            return await handle(strict_request)

        return strict

    async def _handle_directly(self, request: Request) -> Response:
        ids = {name: checked_id(name, value) for name, value in request.path_params.items()}
        response: Response = await self.endpoint(request, **ids)
        return response


_direct: set[Callable[..., Any]] = set()


def direct(
    endpoint: Callable[Parameters, Coroutine[Any, Any, Response]],
) -> Callable[Parameters, Coroutine[Any, Any, Response]]:
    """Call a route's function with the request and the ids in its path, and leave all else to it. FastAPI's way of reading
    parameters takes as long as the work of a small request."""
    _direct.add(endpoint)
    return endpoint


def router(*tags: str) -> APIRouter:
    """An empty router of one slice."""
    return APIRouter(route_class=StrictRoute, tags=list(tags))


PathId = Annotated[str, Path(), AfterValidator(wire.check_id)]
"""A resource's id in the path; declare the route with `{name:path}`, for ids may hold slashes."""


def checked_id(name: str, value: str) -> str:
    """The id that a path has as its parameter `name`. Raises `InvalidRequestError`."""
    try:
        return wire.check_id(value)
    except ValueError as error:
        raise InvalidRequestError(f"{name}: {error}", pointer=name) from None


StoredNumber = Annotated[int, Query(ge=-(2**63), lt=2**63)]
"""A number in the query that the database is asked with."""


def held(name: str) -> Any:
    """What the app holds as `state.<name>`, for a route that depends on it."""

    # A coroutine: FastAPI would send a plain function to a thread, which takes longer than all else of a small request.
    async def find(request: Request) -> Any:
        return getattr(request.app.state, name)

    return Depends(find)


async def idempotency_key(request: Request) -> str | None:
    """The `Idempotency-Key`, told apart by who sends it: the same key of another caller is another key. Raises
    `InvalidRequestError`."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not 1 <= len(key) <= 255:
        raise InvalidRequestError("An Idempotency-Key has 1 to 255 characters.", pointer="Idempotency-Key")
    caller = request.scope.get("paddock.caller", "")
    return f"{caller} {key}" if caller else key


IdempotencyKey = Annotated[str | None, Depends(idempotency_key)]


def count_rows(request: Request, operation: Literal["append", "read"], num_rows: int) -> None:
    """Note for the metrics that a request appended or read rows."""
    rows = request.scope.setdefault("paddock.rows", {})
    rows[operation] = rows.get(operation, 0) + num_rows


def raw_body(schema: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a route that parses its body itself, as `schema` describes it."""
    reference = {"$ref": f"#/components/schemas/{schema.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": reference}}}}


async def while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """What `work` returns. If the client leaves first, `work` is cancelled: nobody waits for it any more."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientLeftError("The client closed the connection.")
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

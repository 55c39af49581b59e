"""`/openapi.json`: generated from the routes and the classes that parse and write, plus what FastAPI cannot know —
the contract's named error responses, and the schemas of bodies that a route parses itself."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.encoders import jsonable_encoder
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from paddock.datasets.schemas import AppendRowsRequest, RegisterDatasetRequest
from paddock.routing import EXTENSION
from paddock.wire import Schema

RAW_BODIES: tuple[type[BaseModel], ...] = (AppendRowsRequest, RegisterDatasetRequest)
"""Bodies that are cut into raw slices instead of being parsed into their class (`routing.raw_body`)."""


class ErrorPlace(Schema):
    """One thing wrong in a request."""

    pointer: str = Field(description="A JSON pointer into the body, or the name of a parameter or header.")
    message: str


class Error(Schema):
    """Error response from the API. Roughly follows RFC 7807."""

    status: int
    title: str
    detail: str
    instance: str | None = Field(default=None, json_schema_extra={"nullable": True})
    errors: list[ErrorPlace] | None = Field(
        default=None, description="Of a 400: what is wrong, and where.", json_schema_extra=EXTENSION
    )


_NAMED_RESPONSES = {
    "400": ("BadRequest400", "Bad Request", "The request was invalid or malformed"),
    "429": (
        "TooManyRequests429",
        "Too Many Requests",
        "The client has sent too many requests in a given amount of time",
    ),
    "500": ("InternalServerError500", "Internal Server Error", "The server encountered an unexpected error"),
    "default": ("DefaultError", "Default Response", "An error occurred"),
}

_EXAMPLES = {
    "400": "The request was invalid or malformed",
    "429": "You have exceeded the rate limit. Please try again later.",
    "500": "An unexpected error occurred",
}
"""The `detail` of the example that a named response has."""

ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": description, "$ref": f"#/components/responses/{name}"}
    for status, (name, description, _) in _NAMED_RESPONSES.items()
}
"""`responses` of every route: each error has one shape. `default` stands for all that a route does not name."""


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of `app`."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
        )
        components = schema.setdefault("components", {})
        classes: list[type[BaseModel]] = [Error, *RAW_BODIES]
        _, raw = models_json_schema(
            [(model, "validation") for model in classes], ref_template="#/components/schemas/{model}"
        )
        # As FastAPI writes its own: a default of null goes without saying.
        components.setdefault("schemas", {}).update(jsonable_encoder(raw["$defs"], exclude_none=True))
        components["responses"] = {name: _response(status) for status, (name, _, _) in _NAMED_RESPONSES.items()}
        for operations in schema["paths"].values():
            for operation in operations.values():
                _describe(operation.get("parameters", []))
        app.openapi_schema = schema
    return app.openapi_schema


def _response(status: str) -> dict[str, Any]:
    _, title, description = _NAMED_RESPONSES[status]
    content: dict[str, Any] = {"schema": {"$ref": "#/components/schemas/Error"}}
    if status in _EXAMPLES:
        content["example"] = {"status": int(status), "title": title, "detail": _EXAMPLES[status]}
    return {"description": description, "content": {"application/json": content}}


def _describe(parameters: list[dict[str, Any]]) -> None:
    """Parameters in paths as the contract has them: described, and without the title that FastAPI makes up."""
    for parameter in parameters:
        if parameter["in"] == "path":
            parameter["description"] = f"Path parameter: {parameter['name']}"
            parameter["schema"].pop("title", None)

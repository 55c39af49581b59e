"""What may stand in a request or an answer: JSON, ids, and the class that every schema of the API derives from.

Knows nothing of HTTP: `server/` reads bodies and writes answers, and calls this for their content.
"""

from __future__ import annotations

import contextvars
import math
import re
from collections.abc import Iterator
from enum import Enum
from typing import Annotated, Any, TypeVar

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Strict, model_validator

MAX_NESTING = 128
"""Levels of arrays and objects that a body may hold; deeper ones serve only to exhaust a parser's stack."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def check_id(value: str) -> str:
    """Return `value` if it may name a resource, else raise `ValueError` with the rule that it breaks."""
    if not 1 <= len(value) <= 256:
        raise ValueError("an id has 1 to 256 characters")
    if _CONTROL.search(value) or not value.isprintable():
        raise ValueError("an id has printable characters only")
    if value.startswith("/") or value.endswith("/"):
        raise ValueError("an id neither starts nor ends with a slash")
    if ".." in value.split("/"):
        raise ValueError("an id has no segment '..'")
    return value


Id = Annotated[str, AfterValidator(check_id)]
"""A resource's id as a body names it. An id is never a path: folders on disk bear our own names."""


ignored_fields: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("ignored_fields", default=None)
"""JSON pointers of the fields of this request that nothing reads. The server sets a list, `RequestBody` fills it."""


def _as_the_contract_writes(schema: dict[str, Any]) -> None:
    """Leave out what pydantic adds and the contract does not have: `additionalProperties`, and the made-up titles of
    fields that may be null."""
    schema.pop("additionalProperties", None)
    for name, field in schema.get("properties", {}).items():
        members = field.get("anyOf", ())
        is_plain = {"type": "null"} in members and not any("oneOf" in member for member in members)
        if is_plain and field.get("title") == name.replace("_", " ").title():
            del field["title"]


class Schema(BaseModel):
    """Base of every class of the contract. Unknown fields are kept aside, so that they can be named as ignored; a value
    is of the type that its field declares, and "8" is no number."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra=_as_the_contract_writes,
        protected_namespaces=(),
        allow_inf_nan=False,
        strict=True,
    )


Enumeration = TypeVar("Enumeration", bound=Enum)
Named = Annotated[Enumeration, Strict(False)]
"""A member of an enumeration, as a body names it: by its value."""


class RequestBody(Schema):
    """A request's outermost object: when it is parsed, the fields that nothing reads are noted in `ignored_fields`."""

    @model_validator(mode="after")
    def _note_ignored_fields(self) -> RequestBody:
        notes = ignored_fields.get()
        if notes is not None:
            # The outermost body is validated last, so its walk stands.
            notes[:] = _unknown_fields(self, "")
        return self


Rows = list[dict[str, Any]]
"""Rows in a body: what stands in them is their owner's business."""


def row_fields(schema: type[BaseModel]) -> tuple[str, ...]:
    """The fields of a class that hold rows."""
    return tuple(name for name, field in schema.model_fields.items() if field.annotation == Rows)


def _unknown_fields(value: object, pointer: str) -> Iterator[str]:
    if isinstance(value, Schema):
        for name in value.model_extra or ():
            yield f"{pointer}/{escape_pointer(name)}"
        for name, field in type(value).model_fields.items():
            if field.annotation != Rows:
                yield from _unknown_fields(getattr(value, name), f"{pointer}/{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown_fields(item, f"{pointer}/{index}")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _unknown_fields(item, f"{pointer}/{escape_pointer(str(name))}")


def escape_pointer(token: str) -> str:
    """One reference token of a JSON pointer (RFC 6901, section 3)."""
    return token.replace("~", "~0").replace("/", "~1")


# What holds no bracket, then brackets; strings are passed over. Possessive, or the matcher would keep a way back for every
# character of a string: 2 GB for one of 16 MB.
_BRACKETS = re.compile(rb'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.?)*+(?:"|\Z))*+([\[\]{},\s]++|\Z)', re.DOTALL)


def is_too_deep(text: bytes) -> bool:
    """Whether arrays and objects of a JSON text nest deeper than `MAX_NESTING`; brackets in strings don't count."""
    if text.count(b"[") + text.count(b"{") <= MAX_NESTING:
        return False
    depth = 0
    for match in _BRACKETS.finditer(text):
        for character in match.group(1):
            if character in b"[{":
                depth += 1
                if depth > MAX_NESTING:
                    return True
            elif character in b"]}":
                depth -= 1
    return False


def finite(value: Any) -> Any:
    """`value` with every float that JSON cannot hold (NaN, Infinity) replaced by None, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


_encoder = msgspec.json.Encoder()


def to_json(value: Any) -> str:
    """`value` as compact JSON text; NaN and Infinity become null."""
    return _encoder.encode(finite(value)).decode()


def from_json(text: str | bytes) -> Any:
    """The value that JSON text stands for."""
    return msgspec.json.decode(text)

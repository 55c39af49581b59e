"""Requests that carry rows: these are cut out as the text they are, everything else is parsed by its schema class."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from pydantic import ValidationError

from paddock import strict_json, wire
from paddock.datasets import rows
from paddock.datasets.rows import RowError
from paddock.datasets.schemas import AppendRowsRequest, RegisterDatasetRequest, RowsDataSource
from paddock.errors import FieldError, InvalidRequestError
from paddock.wire import RequestBody

Members = dict[str, msgspec.Raw]
Body = TypeVar("Body", bound=RequestBody)


@dataclass(frozen=True)
class Registration:
    """A parsed request to register: either the rows themselves or the URI that they are read from."""

    dataset_id: str | None
    purpose: str
    uri: str | None
    texts: Sequence[str]
    metadata_json: str
    digest: str
    """SHA-256 of what was sent, but for white space and the fields that nothing reads."""


def parse_registration(body: bytes) -> Registration:
    """Read the body of `register_dataset`. Raises `InvalidRequestError`."""
    members = _members(body, "")
    source = _source(members)
    rest = dict(members)
    if source is not None:
        rest["source"] = msgspec.Raw(_without_rows(source))
    values = strict_json.parse(_object(rest), ("metadata",))
    if source is not None:
        # The contract has a default for `type` and tells the two sources apart by it: what is there decides.
        values["source"] = {"type": "rows" if "rows" in source else "uri"} | values["source"]
    request = _validated(RegisterDatasetRequest, values)
    metadata = members["metadata"] if request.metadata is not None and "metadata" in members else msgspec.Raw(b"{}")
    texts: Sequence[str] = ()
    if isinstance(request.source, RowsDataSource):
        assert source is not None
        uri, sent = None, bytes(source["rows"])
        texts = _texts(source["rows"], "/source/rows")
    else:
        uri, sent = request.source.uri, request.source.uri.encode()
        if "\0" in uri:
            raise InvalidRequestError("A URI has no NUL character.", pointer="/source/uri")
    return Registration(
        dataset_id=request.dataset_id,
        purpose=request.purpose.value,
        uri=uri,
        texts=texts,
        metadata_json=str(metadata, "utf-8"),
        digest=_digest(request.purpose.value, request.source.type, sent, bytes(metadata)),
    )


def parse_rows(body: bytes, dataset_id: str) -> Sequence[str]:
    """Read the body of `append_rows`: the texts of its rows. Raises `InvalidRequestError`.

    A `dataset_id` in the body, which some clients send, must be the path's."""
    members = _members(body, "")
    if members.keys() != AppendRowsRequest.model_fields.keys():  # nearly all bodies have these and nothing else
        values = strict_json.parse(_without_rows(members))
        if values.pop("dataset_id", None) not in (None, dataset_id):
            raise InvalidRequestError("`dataset_id` names another dataset than the path.", pointer="/dataset_id")
        _validated(AppendRowsRequest, values)
    return _texts(members["rows"], "/rows")


def _members(document: bytes | msgspec.Raw, pointer: str) -> Members:
    try:
        members = rows.open_object(document)
    except ValueError as error:
        raise InvalidRequestError(f"The body {error}.", pointer=pointer) from None
    name = rows.repeated_name(document, members)
    if name is not None:
        place = f"{pointer}/{wire.escape_pointer(name)}"
        raise InvalidRequestError(f"{place}: this name stands more than once.", pointer=place)
    return members


def _source(members: Members) -> Members | None:
    """The members of `source`, or None if it is no object; its class says so then."""
    raw = members.get("source")
    return _members(raw, "/source") if raw is not None and memoryview(raw)[0] == ord("{") else None


def _without_rows(members: Members) -> bytes:
    return _object(members | {"rows": msgspec.Raw(b"[]")} if "rows" in members else members)


def _object(members: Members) -> bytes:
    return b"{%s}" % b",".join(msgspec.json.encode(name) + b":" + bytes(raw) for name, raw in members.items())


def _texts(array: msgspec.Raw, pointer: str) -> Sequence[str]:
    try:
        return rows.texts(rows.open_array(array))
    except RowError as error:
        raise InvalidRequestError(f"Row {error.index} {error}.", pointer=f"{pointer}/{error.index}") from None
    except ValueError as error:
        raise InvalidRequestError(f"`rows` {error}.", pointer=pointer) from None


def _validated(schema: type[Body], values: dict[str, Any]) -> Body:
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        fields = tuple(_field_error(found["loc"], found["msg"]) for found in error.errors(include_url=False))
        detail = "; ".join(f"{field.pointer}: {field.message}" for field in fields)
        raise InvalidRequestError(detail, errors=fields) from None


def _field_error(loc: tuple[int | str, ...], message: str) -> FieldError:
    if loc[0] == "source":
        loc = ("source", *loc[2:])  # pydantic names the chosen member of the union on the way
    pointer = "".join(f"/{wire.escape_pointer(str(part))}" for part in loc)
    return FieldError(pointer, message.removeprefix("Value error, "))


def _digest(purpose: str, source_type: str, sent: bytes, metadata: bytes) -> str:
    digest = hashlib.sha256(f"{purpose}\0{source_type}\0".encode())
    # White space between the tokens of JSON is not part of what was sent; digits and the order of keys are.
    digest.update(msgspec.json.format(sent, indent=-1) if source_type == "rows" else sent)
    digest.update(b"\0" + msgspec.json.format(metadata, indent=-1))
    return digest.hexdigest()

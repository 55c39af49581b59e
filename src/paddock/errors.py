"""What can go wrong, each with its HTTP status. `server/answers.py` maps them to the contract's `Error`, once.

The message is written for the person who reads the answer: it names the field and the mend, never a path of the
server, an address inside its network, or a traceback.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FieldError:
    """One thing wrong in a request: a JSON pointer into the body (or the parameter's name) and what is wrong there."""

    pointer: str
    message: str


class PaddockError(Exception):
    """Something that the server did not do, and why."""

    status = 500
    title = "Internal Server Error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class InvalidRequestError(PaddockError):
    """The client can mend this: a field is missing, of the wrong kind, or names something unknown."""

    status = 400
    title = "Bad Request"

    def __init__(self, detail: str, *, pointer: str | None = None, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(detail)
        self.errors = errors or ((FieldError(pointer, detail),) if pointer is not None else ())


class UnauthorizedError(PaddockError):
    """Nobody knows who asks: the key or token is absent, wrong, or no longer valid. `challenge` says how to say so."""

    status = 401
    title = "Unauthorized"

    def __init__(self, detail: str, *, challenge: str = "Bearer") -> None:
        super().__init__(detail)
        self.challenge = challenge


class ForbiddenError(PaddockError):
    """The caller may not do this."""

    status = 403
    title = "Forbidden"


class NotFoundError(PaddockError):
    """An id in the path or the query that nothing bears."""

    status = 404
    title = "Not Found"


class RequestTimeoutError(PaddockError):
    """The request did not arrive in time. Official clients send it again by themselves."""

    status = 408
    title = "Request Timeout"


class ConflictError(PaddockError):
    """The request is right, the state of things is not: repeating it unchanged will not help."""

    status = 409
    title = "Conflict"


class BodyTooLargeError(PaddockError):
    """The body is over `max_body_bytes`."""

    status = 413
    title = "Content Too Large"


class TooManyRequestsError(PaddockError):
    """More than the server takes on at once; try again after `retry_after_seconds`. `limit` is the setting's name."""

    status = 429
    title = "Too Many Requests"

    def __init__(self, detail: str, *, limit: str, retry_after_seconds: int = 1) -> None:
        super().__init__(detail)
        self.limit = limit
        self.retry_after_seconds = retry_after_seconds


class HeadersTooLargeError(PaddockError):
    """A request's head is larger than any that a client of this API sends."""

    status = 431
    title = "Request Header Fields Too Large"


class ClientLeftError(PaddockError):
    """The client closed the connection before its answer. Nobody reads this; the log shows nginx's status for it."""

    status = 499
    title = "Client Closed Request"


class BackendError(PaddockError):
    """A model server, or the engine process, is down or answered nonsense."""

    status = 502
    title = "Bad Gateway"


class BackendAwayError(BackendError):
    """A model server, or the engine process, cannot be reached or takes no more: whatever it is asked, it is not there."""


class BackendSetupError(BackendError):
    """A model server takes this server's key for none, does not know the model, or is none: the settings are wrong."""


class BackendTimeoutError(PaddockError):
    """A model server did not answer in time."""

    status = 504
    title = "Gateway Timeout"


class NoSpaceError(PaddockError):
    """The disk is full; nothing was stored."""

    status = 507
    title = "Insufficient Storage"


class LostLeaseError(PaddockError):
    """This attempt at a job is no longer the job's own: it was cancelled, or has a successor. Stop, write nothing."""

    status = 409
    title = "Conflict"

"""Every knob of the server: a YAML file (`--config`), then `PADDOCK_*` variables, then flags; later ones win.

Secrets are written `${env.NAME}` or `${env.NAME:=default}` in the file, as in a Llama Stack run configuration. A key
that nothing reads stops the start: a setting that is taken and ignored would be a lie.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from paddock.errors import InvalidRequestError

_ENVIRONMENT_PREFIX = "PADDOCK_"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class RemoteConfig(_Section):
    """How to reach one remote server of models."""

    base_url: str
    """Up to and including `/v1`, as OpenAI clients take it."""
    api_key: str = "none"
    max_concurrency: int = Field(default=64, ge=1)
    """The most requests in flight to this provider, per process; fewer where it does not answer faster for more."""
    timeout_seconds: float = Field(default=60.0, gt=0)
    max_busy_seconds: float = Field(default=120.0, ge=0)
    """How long a request may be refused as one too many (429, or 503 with `Retry-After`) before it has failed."""


class Provider(_Section):
    """A source of models beside `local`, which is always there."""

    provider_id: str
    provider_type: Literal["remote::openai"]
    config: RemoteConfig


class RegisteredResources(_Section):
    """What exists from the first start on, in the words of the registration routes; each entry is such a request."""

    models: tuple[dict[str, Any], ...] = ()
    datasets: tuple[dict[str, Any], ...] = ()
    scoring_functions: tuple[dict[str, Any], ...] = ()
    benchmarks: tuple[dict[str, Any], ...] = ()


class Settings(_Section):
    """The configuration of one server."""

    data_dir: Path = Path("~/.paddock")
    """All state: database, checkpoints, logs. Copying it copies the server."""
    database_url: str = "sqlite"
    """`sqlite` (a file in the data directory) or `postgresql://user@host/database`."""
    host: str = "127.0.0.1"
    """Address to listen on. Only loopback, as long as there are no keys."""
    port: int = Field(default=8321, ge=0, le=65535)
    """Port to listen on; 0 takes a free one and prints it."""

    allowed_hosts: tuple[str, ...] = ()
    """Names by which clients may address this server in the `Host` header, beside loopback and `host`."""

    providers: tuple[Provider, ...] = ()
    """Remote servers of models."""
    registered_resources: RegisteredResources = RegisteredResources()
    """Models, datasets, scoring functions and benchmarks that exist from the first start on."""

    dataset_roots: tuple[Path, ...] = ()
    """Folders that `file:` sources may read. None by default."""
    dataset_hosts: tuple[str, ...] = ()
    """Hosts that sources on the network may be read from, as `example.org`, `*.example.org`, `example.org:8443`,
    `10.1.2.3:8080`, or a bucket as `s3://bucket`. None by default."""
    dataset_networks: tuple[str, ...] = ()
    """Networks of your own, as `10.0.0.0/8`, in which names of `dataset_hosts` may have their addresses. None by default:
    public ones only."""
    model_roots: tuple[Path, ...] = ()
    """Folders whose models may be named by their path. Models registered in this file need none."""
    hub_models: tuple[str, ...] = ()
    """Hub ids that may be named without registration; `*` matches, as in `meta-llama/*`."""
    checkpoint_root: Path | None = None
    """Where checkpoints lie; a request's `checkpoint_dir` is a folder below it. Default: in the data directory."""
    default_training_model: str | None = None
    """The model that supervised fine-tuning trains when a request names none."""

    max_body_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    """The largest request body; a larger one is answered 413 without reading it all."""
    max_evaluate_rows: int = Field(default=1000, ge=1)
    """The most rows that one `evaluate_rows` request takes; more are a job's work."""
    max_running_jobs: int = Field(default=2, ge=1)
    """Jobs that run at once, each in a process of its own."""
    lease_seconds: float = Field(default=15.0, gt=0)
    """A job whose worker was silent for so long is given to another."""
    max_lost_attempts: int = Field(default=3, ge=1)
    """How often a job's process may be lost (killed, crashed) before the job fails."""
    cancel_grace_seconds: float = Field(default=5.0, ge=0)
    """How long a cancelled job's process may take to end before it is killed."""
    num_threads: int = Field(default=1, ge=1)
    """Threads that torch uses in each process. On a shared machine one is often the fastest."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where models run; `auto` takes a GPU where there is one."""
    max_batch_size: int = Field(default=64, ge=1)
    """The most sequences that the engine generates for at once."""

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if value != "sqlite" and not value.startswith(("postgresql://", "postgres://")):
            raise ValueError("write `sqlite` or `postgresql://user@host/database`")
        return value


def load(config: Path | None = None, **flags: Any) -> Settings:
    """The settings from a file, the environment and flags (those that are not None).

    Raises `InvalidRequestError` naming each setting that cannot be right."""
    values: dict[str, Any] = {}
    if config is not None:
        try:
            read = yaml.safe_load(config.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InvalidRequestError(f"The configuration {config} cannot be read: {error}") from None
        if read is not None and not isinstance(read, dict):
            raise InvalidRequestError(f"The configuration {config} must be a mapping of settings.")
        values.update(_substitute(read or {}))
    values.update(_from_environment())
    values.update({name: value for name, value in flags.items() if value is not None})
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        lines = [f"  {'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()]
        raise InvalidRequestError("The settings cannot be used:\n" + "\n".join(lines)) from None


def _from_environment() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in Settings.model_fields:
        text = os.environ.get(_ENVIRONMENT_PREFIX + name.upper())
        if text is not None:
            # Lists and tables are written as YAML, which plain strings and numbers are as well.
            found[name] = text if name in ("data_dir", "database_url", "host") else yaml.safe_load(text)
    return found


_REFERENCE = re.compile(r"\$\{env\.([A-Za-z_][A-Za-z0-9_]*)(?::=([^}]*))?\}")


def _substitute(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _substitute(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_substitute(item) for item in value]
    if isinstance(value, str):
        return _REFERENCE.sub(_environment_value, value)
    return value


def _environment_value(match: re.Match[str]) -> str:
    name, default = match.groups()
    value = os.environ.get(name, default)
    if value is None:
        raise InvalidRequestError(f"The configuration names the variable {name}, which is not set.")
    return value

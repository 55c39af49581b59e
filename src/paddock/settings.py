"""Every knob of the server: a YAML file (`--config`), then `PADDOCK_*` variables, then flags; later ones win.

Secrets are written `${env.NAME}` or `${env.NAME:=default}` in the file, as in a Llama Stack run configuration. A key
that nothing reads stops the start: a setting that is taken and ignored would be a lie.
"""

from __future__ import annotations

import difflib
import hashlib
import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from paddock.errors import InvalidRequestError

_ENVIRONMENT_PREFIX = "PADDOCK_"

_READ_BY_OTHERS = ("PADDOCK_API_KEY", "PADDOCK_CLIENT_FILE", "PADDOCK_URL")  # by the commands that speak to a server

_MIN_KEY_CHARACTERS = 16

Role = Literal["read", "write"]
"""`read` may ask (GET and HEAD), `write` may do everything."""


class _Section(BaseModel):
    # What was given never stands in a message: it may be a secret.
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), hide_input_in_errors=True)


class RemoteConfig(_Section):
    """How to reach one remote server of models."""

    base_url: str
    """Up to and including `/v1`, as OpenAI clients take it."""
    api_key: str = Field(default="none", repr=False)
    max_concurrency: int = Field(default=64, ge=1)
    """The most requests in flight to this provider, per process; fewer where it does not answer faster for more."""
    timeout_seconds: float = Field(default=60.0, gt=0)
    max_busy_seconds: float = Field(default=120.0, ge=0)
    """How long a request may be refused as one too many (429, or 503 with `Retry-After`) before it has failed."""
    rerank_shape: Literal["cohere", "tei"] = "cohere"
    """How its `/rerank` is asked: as Cohere, Jina and vLLM are, or as text-embeddings-inference is."""
    rerank_batch_size: int | None = Field(default=None, ge=1)
    """The most items that it takes at once; longer requests are sent in parts. None: any number, or 32 of `tei`."""


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


class ApiKey(_Section):
    """A bearer key that the server knows, by its hash alone."""

    key_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    name: str = Field(pattern=r"^[A-Za-z0-9._@:-]{1,64}$")
    role: Role = "write"


class JwtConfig(_Section):
    """Tokens of an OpenID Connect provider that the server takes beside its own keys."""

    issuer: str
    audience: str
    jwks_url: str | None = None
    """Where the provider publishes its keys; `https`, or `http` on loopback."""
    jwks_file: Path | None = None
    """The same as a file; it is read again when it changed."""
    role_claim: str = "scope"
    """The claim that holds roles: a list, or a text with spaces between them."""
    read_role: str = "paddock:read"
    write_role: str = "paddock:write"

    @model_validator(mode="after")
    def _one_source(self) -> JwtConfig:
        if (self.jwks_url is None) == (self.jwks_file is None):
            raise ValueError("give `jwks_url` or `jwks_file`, one of them")
        if self.jwks_url is not None:
            url = urlsplit(self.jwks_url)
            if url.scheme != "https" and not (url.scheme == "http" and is_loopback(url.hostname or "")):
                raise ValueError("`jwks_url` must be https, or http on loopback: whoever writes the keys writes tokens")
        return self


class RateLimit(_Section):
    """How often each client may ask."""

    requests_per_minute: int = Field(ge=1)
    redis_url: str | None = Field(default=None, repr=False, pattern="^rediss?://")
    """Where several servers count together (extra `redis`); each counts in its own memory without it."""


class Settings(_Section):
    """The configuration of one server."""

    data_dir: Path = Path("~/.paddock")
    """All state: database, checkpoints, logs. Copying it copies the server."""
    database_url: str = Field(default="sqlite", repr=False)
    """`sqlite` (a file in the data directory) or `postgresql://user@host/database`."""
    host: str = "127.0.0.1"
    """Address to listen on. Only loopback, unless there are keys or `allow_anyone` is set."""
    port: int = Field(default=8321, ge=0, le=65535)
    """Port to listen on; 0 takes a free one and prints it."""

    allowed_hosts: tuple[str, ...] = ()
    """Names by which clients may address this server in the `Host` header, beside loopback and `host`."""

    api_keys: tuple[ApiKey, ...] = ()
    """Bearer keys; a plain string is hashed when the settings are read, and forgotten. None: loopback only."""
    jwt: JwtConfig | None = None
    """Tokens of an OpenID Connect provider, taken beside the keys (extra `oidc`)."""
    allow_anyone: bool = False
    """Listen beyond loopback without keys: whoever reaches the server may use it."""
    rate_limit: RateLimit | None = None
    """How often each client (a key, a token's subject, else an address) may ask. None by default."""

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

    logger_dir: Path | None = None
    """Where TensorBoard, MLflow, W&B and trackio keep the files of training runs. Default: in the data directory."""
    mlflow_tracking_uri: str | None = None
    """The MLflow server that training jobs log to. Default: files in `logger_dir`."""
    wandb_api_key: str | None = None
    """With a key, training jobs log to the W&B server; without, to files in `logger_dir`."""
    wandb_base_url: str = "https://api.wandb.ai"
    """The W&B server."""

    max_body_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    """The largest request body; a larger one is answered 413 without reading it all."""
    max_requests_in_flight: int = Field(default=64, ge=1)
    """Requests that cost something (POST, iterrows) done at once; more are answered 429 at once instead of waiting."""
    max_connections: int = Field(default=2000, ge=8)
    """Open connections. One more closes the one that has waited longest for its client, if there is one."""
    header_timeout_seconds: float = Field(default=10.0, gt=0)
    """How long a request's head may take to arrive, from the connection or from its first byte on."""
    body_timeout_seconds: float = Field(default=30.0, gt=0)
    """How long a request's body may take to arrive; each 256 KiB of it add a second."""
    write_timeout_seconds: float = Field(default=30.0, gt=0)
    """A client that takes none of its answer for so long is cut off."""
    keep_alive_seconds: int = Field(default=15, ge=1)
    """How long a connection without a request stays open."""
    max_evaluate_rows: int = Field(default=1000, ge=1)
    """The most rows that one `evaluate_rows` request takes; more are a job's work."""
    generation_cache_rows: int = Field(default=0, ge=0)
    """How many greedy generations are kept for evaluations that ask the same model the same again; 0 keeps none."""
    max_running_jobs: int = Field(default=2, ge=1)
    """Jobs that run at once, each in a process of its own."""
    max_running_jobs_of_kind: dict[str, Annotated[int, Field(ge=0)]] = {}
    """How many of them may be of one kind: `{sft: 1}`. A kind that is not named has no bound of its own."""
    ready_job_process: bool = True
    """Keep a process, from the end of the first job until ten minutes after the last, that forks those of jobs: they start
    within a tenth of a second instead of one, and share its 70 MB. On Linux."""
    job_nice: int = Field(default=0, ge=0, le=19)
    """How far jobs stand back when processor time is short, as `nice` counts it."""
    max_job_memory_bytes: int | None = Field(default=None, ge=64 * 1024 * 1024)
    """The most memory that a job's process may take; over it the job fails, and says so."""
    max_scheduled_jobs: int = Field(default=1000, ge=1)
    """Jobs that may wait; a submission beyond them is answered 429."""
    lease_seconds: float = Field(default=15.0, gt=0)
    """A job whose worker was silent for so long is given to another."""
    max_lost_attempts: int = Field(default=3, ge=1)
    """How often a job's process may be lost (killed, crashed) before the job fails."""
    max_job_retries: int = Field(default=5, ge=0)
    """How often in a row, with nothing done between, a job is put off because a model server is away or late, before it
    fails."""
    job_retry_seconds: float = Field(default=2.0, ge=0)
    """How long it is put off the first time; each further time twice as long."""
    keep_logs_days: float | None = Field(default=None, ge=0)
    """Logs of jobs that ended longer ago are deleted, every hour; none: they are kept."""
    keep_jobs_days: float | None = Field(default=None, ge=0)
    """The same for whole jobs with their results, except those that made checkpoints."""
    cancel_grace_seconds: float = Field(default=5.0, ge=0)
    """How long a job's process may take to end, when its job is cancelled or the server ends, before it is killed."""
    num_threads: int = Field(default=1, ge=1)
    """Threads that torch uses in each process. On a shared machine one is often the fastest."""
    training_workers: int = Field(default=1, ge=1)
    """Processes that train one job together, its weights split among them: on GPUs, one each."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where models run; `auto` takes a GPU where there is one."""
    max_batch_size: int = Field(default=64, ge=1)
    """The most sequences that the engine generates for at once."""
    log_format: Literal["text", "json"] = "text"
    """How the server's log is written: for people, or one JSON object a line."""

    @property
    def is_open(self) -> bool:
        """Whether anyone may ask: there is nothing to know a client by."""
        return not self.api_keys and self.jwt is None

    def for_children(self) -> Settings:
        """These settings without what only the server's door needs: a child process knows no keys."""
        return self.model_copy(update={"api_keys": (), "jwt": None, "rate_limit": None})

    @field_validator("api_keys", mode="before")
    @classmethod
    def _hash_plain_keys(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        return tuple(_hashed(key) if isinstance(key, str) else key for key in value)

    @field_validator("api_keys")
    @classmethod
    def _distinct_keys(cls, value: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        if len({key.name for key in value}) < len(value) or len({key.key_sha256 for key in value}) < len(value):
            raise ValueError("two keys bear one name, or are the same")
        return value

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if value != "sqlite" and not value.startswith(("postgresql://", "postgres://")):
            raise ValueError("write `sqlite` or `postgresql://user@host/database`")
        return value


def is_loopback(host: str) -> bool:
    """Whether a name or an address without its brackets is this machine's own."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def sha256_of_key(key: str) -> str:
    """What is kept of a key. It is random and long, so that its hash needs no salt and no slowness."""
    return hashlib.sha256(key.encode()).hexdigest()


def _hashed(key: str) -> dict[str, str]:
    if len(key) < _MIN_KEY_CHARACTERS or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(
            f"a plain key has at least {_MIN_KEY_CHARACTERS} printable ASCII characters and no spaces; "
            "`paddock keys new` makes one"
        )
    digest = sha256_of_key(key)
    return {"key_sha256": digest, "name": f"key-{digest[:8]}"}


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


def unread_variables(config: Path | None) -> list[str]:
    """The variables `PADDOCK_…` of the environment that nothing reads, each with the setting that may be meant."""
    settings = [_ENVIRONMENT_PREFIX + name.upper() for name in Settings.model_fields]
    referred = _REFERENCE.findall(config.read_text(encoding="utf-8")) if config is not None else []
    read = {*settings, *_READ_BY_OTHERS, *(name for name, _ in referred)}
    unread = []
    for name in sorted(os.environ):
        if name.startswith(_ENVIRONMENT_PREFIX) and not name.startswith("PADDOCK_TEST_") and name not in read:
            meant = difflib.get_close_matches(name, settings, n=1, cutoff=0.8)
            unread.append(f"{name} (is {meant[0]} meant?)" if meant else name)
    return unread


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

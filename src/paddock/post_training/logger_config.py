"""The schema of `logger_config`: which loggers a job's series go to, and how the run is called there.

Addresses, folders and tokens are the settings' business. The job's own series are kept whatever stands here. Imports none
of the loggers.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from paddock import wire
from paddock.errors import FieldError
from paddock.wire import escape_pointer

LoggerName = Literal["tensorboard", "mlflow", "wandb", "trackio"]

PLACE = "/logger_config"
PACKAGES: dict[str, str] = {
    "tensorboard": "tensorboard",
    "mlflow": "mlflow-skinny",
    "wandb": "wandb",
    "trackio": "trackio",
}
"""Logger → the package that brings the module of its name."""

Name = Annotated[str, AfterValidator(wire.check_id)]


class LoggerConfig(BaseModel):
    """What `logger_config` holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    loggers: list[LoggerName] = Field(default_factory=list)
    run_name: Name | None = None
    project: Name = "paddock"
    tags: dict[Name, str] = Field(default_factory=dict, max_length=100)


def check(given: dict[str, Any]) -> Iterator[FieldError]:
    """What is wrong with a `logger_config`; a logger whose package is not installed here is."""
    try:
        config = LoggerConfig.model_validate(given)
    except ValidationError as error:
        for e in error.errors():
            # pydantic's mark of a key, as opposed to its value, is no part of the place.
            place = "".join(f"/{escape_pointer(str(part))}" for part in e["loc"] if part != "[key]")
            yield FieldError(PLACE + place, str(e["msg"]).removeprefix("Value error, "))
        return
    for index, name in enumerate(config.loggers):
        if importlib.util.find_spec(name) is None:
            reason = f"{name} is not installed on this server: pip install {PACKAGES[name]}"
            yield FieldError(f"{PLACE}/loggers/{index}", reason)
        elif name in config.loggers[:index]:
            yield FieldError(f"{PLACE}/loggers/{index}", f"{name} is named a second time")

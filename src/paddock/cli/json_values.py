"""JSON objects on the command line: written in place, or in a file of JSON or YAML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import yaml


def json_object(value: str) -> dict[str, Any]:
    """The type of an option: what starts with a brace is the object itself, everything else the path of a file with it.

    Raises `BadParameter`."""
    try:
        if value.lstrip().startswith("{"):
            found = json.loads(value)
        else:
            found = yaml.safe_load(Path(value).read_text(encoding="utf-8"))
    except OSError as error:
        raise click.BadParameter(f"{value!r} is neither a JSON object nor a file to read: {error.strerror}.") from None
    except (ValueError, yaml.YAMLError) as error:
        raise click.BadParameter(f"{value!r} cannot be read: {error}.") from None
    if not isinstance(found, dict):
        raise click.BadParameter(f"{value!r} holds no object.")
    return found


def laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Two objects as one: what `above` says stands, member by member at every depth."""
    merged = dict(below)
    for name, value in above.items():
        inner = merged.get(name)
        merged[name] = laid_over(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged

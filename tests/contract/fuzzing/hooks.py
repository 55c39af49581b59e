"""What schemathesis does beside its own: ids that are there, a check of refusals, an end for jobs, a count of cases.

Loaded by schemathesis in its own process (`run` names it in the configuration); `PADDOCK_FUZZ` there is a JSON object:
`ids` (`world.IDS`), `url`, and `counts`, the file that the counts go to.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import schemathesis
from hypothesis import strategies as st
from schemathesis.core.transport import Response
from schemathesis.generation.case import Case
from schemathesis.hooks import HookContext

_GIVEN = json.loads(os.environ["PADDOCK_FUZZ"])
_IDS: dict[str, list[str]] = _GIVEN["ids"]
_EMPTIED = ("hyperparam_search_config", "logger_config")
_LEAK = re.compile(r"Traceback|site-packages|/paddock/|\.py\b|127\.0\.0\.1|0x[0-9a-f]{8}")

_counts: Counter[str] = Counter()
_statuses: Counter[str] = Counter()
_accepted: list[str] = []


_NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=20)
_VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=50).map(str.strip)


@schemathesis.hook
def before_generate_case(context: HookContext, strategy: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    """An operation without any input gets some that means nothing to it: it must answer all the same."""
    operation = context.operation
    if operation is None or operation.definition.raw.get("parameters") or "requestBody" in operation.definition.raw:
        return strategy
    headers = st.dictionaries(_NAMES.map("X-".__add__), _VALUES, max_size=3)
    return st.builds(_with_noise, strategy, st.dictionaries(_NAMES, _VALUES, max_size=3), headers)


def _with_noise(case: Case, query: dict[str, str], headers: dict[str, str]) -> Case:
    case.query = query
    case.headers.update(headers)
    return case


@schemathesis.hook
def before_call(context: HookContext, case: Case, **kwargs: Any) -> None:
    """Two of three that are made by the schema get ids that are there, and numbers of use: others find nothing, and are
    refused before anything is done."""
    parts = (case.path_parameters, case.query, case.body)
    chance = zlib.crc32(repr(parts).encode(errors="replace"))
    if chance % 3 and (case.meta is None or case.meta.generation.mode.is_positive):
        for part in parts:
            _tame(part, chance)


def _tame(value: Any, chance: int) -> None:
    if isinstance(value, dict):
        for name, item in value.items():
            known = _IDS.get(name)
            if known and isinstance(item, str):
                value[name] = known[chance % len(known)]
            elif name in _EMPTIED:
                value[name] = {}
            elif isinstance(item, int | float) and not isinstance(item, bool) and name not in ("top_p", "dropout"):
                value[name] = type(item)(1 + abs(item) % 4)
            else:
                _tame(item, chance)
    elif isinstance(value, list):
        for item in value:
            _tame(item, chance)


@schemathesis.hook
def after_call(context: HookContext, case: Case, response: Response) -> None:
    """Count, and end accepted jobs but for the last: what a made-up request trains could take weeks."""
    _counts[case.operation.label] += 1
    _statuses[str(response.status_code)] += 1
    accepted = case.method == "POST" and response.status_code == 200
    if accepted and case.path.endswith(("/jobs", "/supervised-fine-tune", "/preference-optimize")):
        answer = response.json()
        kind, job_id = next(iter(answer.items()))
        _accepted.append(job_id)
        if len(_accepted) > 1:
            _end(_accepted.pop(0))
        _IDS[kind][1:] = [*_IDS[kind][1:], job_id][-3:]


def _end(job_id: str) -> None:
    if job_id not in (_IDS["job_id"][0], _IDS["job_uuid"][0]):
        httpx.delete(f"{_GIVEN['url']}/v1alpha/jobs/{job_id}", timeout=30)


@schemathesis.check
def refusals_say_what_to_mend(context: Any, response: Response, case: Case) -> None:
    """An error has a request id, sentences of a bounded length, no insides of the server; a 400 the places at fault."""
    if response.status_code < 400:
        return
    error = response.json()
    assert error["status"] == response.status_code, "the body says another status"
    assert error["instance"] == response.headers["x-request-id"][0], "the instance is not the request's id"
    assert 0 < len(error["detail"]) <= 2000, "the detail is empty or too long"
    assert not _LEAK.search(error["detail"]) or _LEAK.search(repr(case.body) + repr(case.path_parameters)), "a leak"
    if response.status_code == 400:
        assert error.get("errors"), "the refusal names no place"
        for found in error["errors"]:
            assert found["pointer"] == "" or found["pointer"][0] == "/" or re.fullmatch(r"[\w-]+", found["pointer"]), (
                found
            )
            assert found["message"], found


@schemathesis.check
def methods_are_told(context: Any, response: Response, case: Case) -> None:
    """405 tells the methods that there are: those of the contract, and not the one that was refused."""
    if response.status_code == 405:
        told = response.headers["allow"][0].split(", ")
        documented = [method.upper() for method in case.operation.schema[case.operation.path]]
        assert case.method not in told, f"{case.method} is refused and told"
        assert not set(documented) - set(told), f"{documented} are documented, {told} are told"


@atexit.register
def _finish() -> None:
    for job_id in _accepted:
        _end(job_id)
    Path(_GIVEN["counts"]).write_text(json.dumps({"cases": _counts, "statuses": _statuses}))

"""Open benchmarks out of a Llama Stack configuration: its `datasets`, `scoring_fns` and `benchmarks`, at the top of the file
or among `registered_resources`. The rest of such a file is another server's own business, and is told of in the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paddock.client import Client, ClientError, quoted
from paddock.suites import yaml_file
from paddock.suites.suite import FUNCTIONS, Suite, SuiteError
from paddock.suites.yaml_file import Function

_REGISTERED = "registered_resources"
_READ = {
    "datasets": ("dataset_id", {"dataset_id", "purpose", "source", "metadata"}),
    "scoring_fns": ("scoring_fn_id", {"scoring_fn_id", "description", "return_type", "params"}),
    "benchmarks": ("benchmark_id", {"benchmark_id", "dataset_id", "scoring_functions", "metadata"}),
}
"""Kind of resource → what its id is called, and which of its keys are carried."""

_PLACEHOLDER = "${env."


def is_one(path: Path) -> bool:
    """Whether a file is such a configuration. Raises `SuiteError` if it cannot be read."""
    config = yaml_file.read(path)
    return any("benchmarks" in part for part in (config, config.get(_REGISTERED)) if isinstance(part, Mapping))


def load(path: Path, client: Client, *, only: Sequence[str] = ()) -> Suite:
    """The benchmarks of a file, or `only` some of them, with what they need. A benchmark that needs something that neither
    the file nor the server has is left out. Raises `SuiteError` if none is left, and `ClientError`."""
    config = yaml_file.read(path)
    suite = Suite()
    resources = config.get(_REGISTERED, {}) if "benchmarks" not in config else config
    for key in sorted(config.keys() - _READ.keys() - {_REGISTERED}):
        suite.note(key, "It belongs to the server that the file was written for.")
    datasets, functions, benchmarks = (_entries(resources, kind, suite) for kind in _READ)
    if unknown := [benchmark_id for benchmark_id in only if benchmark_id not in benchmarks]:
        raise SuiteError(f"The file has no benchmark {unknown[0]!r}, but {', '.join(benchmarks)}.")
    for benchmark_id, benchmark in benchmarks.items():
        if only and benchmark_id not in only:
            suite.note(f"benchmarks.{benchmark_id}", "It was not asked for.")
            continue
        lacking = _lacking(benchmark, datasets, functions, client)
        if lacking is not None:
            suite.note(f"benchmarks.{benchmark_id}", lacking)
            continue
        suite.benchmarks.append(benchmark)
        if any(name.startswith("llm-as-judge::") for name in benchmark["scoring_functions"]):
            suite.note(f"benchmarks.{benchmark_id}", "It is carried; name its judge when you run it (--judge-model).")
    if not suite.benchmarks:
        reasons = "; ".join(f"{note.key}: {note.reason}" for note in suite.notes if note.key.startswith("benchmarks."))
        raise SuiteError(f"None of its benchmarks can be imported. {reasons}")
    used = {benchmark["dataset_id"] for benchmark in suite.benchmarks}
    named = {name for benchmark in suite.benchmarks for name in benchmark["scoring_functions"]}
    suite.datasets = [dataset for dataset_id, dataset in datasets.items() if dataset_id in used]
    suite.scoring_functions = [function for function_id, function in functions.items() if function_id in named]
    for kind, entries, needed in (("datasets", datasets, used), ("scoring_fns", functions, named)):
        for resource_id in entries:
            if resource_id not in needed:
                suite.note(f"{kind}.{resource_id}", "No benchmark that is imported needs it.")
    return suite


def _entries(resources: Any, kind: str, suite: Suite) -> dict[str, dict[str, Any]]:
    """Id → the body that registers it."""
    id_key, carried = _READ[kind]
    entries = resources.get(kind) or [] if isinstance(resources, Mapping) else []
    if not isinstance(entries, list):
        raise SuiteError(f"`{kind}` must be a list.")
    found = {}
    for entry in entries:
        resource_id = entry.get(id_key) if isinstance(entry, Mapping) else None
        if not isinstance(resource_id, str):
            raise SuiteError(f"Each of `{kind}` needs its `{id_key}`.")
        for key in sorted(entry.keys() - carried):
            suite.note(f"{kind}.{resource_id}.{key}", "It belongs to the server that the file was written for.")
        kept = {key: value for key, value in entry.items() if key in carried and value is not None}
        found[resource_id] = json.loads(json.dumps(kept, default=_plain))
    return found


def _plain(value: Any) -> str:
    """A value of YAML that JSON does not have, such as a date, as its text."""
    if isinstance(value, Function):
        raise SuiteError(f"The file has Python code in it ({value.name}), which is not run.")
    return str(value)


def _lacking(
    benchmark: Mapping[str, Any], datasets: Mapping[str, Any], functions: Mapping[str, Any], client: Client
) -> str | None:
    """Why a benchmark cannot be carried; None if it can."""
    names = benchmark.get("scoring_functions")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return "It names no scoring functions."
    dataset = datasets.get(benchmark.get("dataset_id", ""))
    if dataset is None:
        return f"The file has no dataset {benchmark.get('dataset_id')!r}."
    if _PLACEHOLDER in json.dumps(dataset):
        return "Its dataset is named by a variable of the environment of another server."
    unknown = [name for name in names if name not in functions and not _has_function(client, name)]
    return f"There is no scoring function {unknown[0]!r} here." if unknown else None


def _has_function(client: Client, function_id: str) -> bool:
    try:
        client.get(f"{FUNCTIONS}/{quoted(function_id)}")
    except ClientError as error:
        if error.status != 404:
            raise
        return False
    return True

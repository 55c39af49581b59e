"""What a task of lm-evaluation-harness is scored by: its metrics and filters as scoring functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paddock.suites.suite import Suite, SuiteError
from paddock.suites.yaml_file import Function

_OF_CHOICES = {
    "acc": "loglikelihood::acc",
    "acc_norm": "loglikelihood::acc_norm",
    "acc_bytes": "loglikelihood::acc_bytes",
}
_OF_TEXTS = {"bleu": "text::bleu", "chrf": "text::chrf", "rouge": "text::rouge", "rougeL": "text::rouge"}
_DEFAULTS = {"multiple_choice": ("acc", "acc_norm"), "generate_until": ("exact_match",)}
_OPTIONS = {"ignore_case", "ignore_punctuation", "ignore_numbers", "regexes_to_ignore"}
_ABOUT = {"metric", "aggregation", "higher_is_better", "hf_evaluate"}
_FALLBACK = "[invalid]"


def chosen_metrics(config: Mapping[str, Any], suite: Suite) -> list[str]:
    """The scoring functions of a `multiple_choice` task. Raises `SuiteError` if none of its metrics is carried."""
    if any(_steps(pipeline) for pipeline in _pipelines(config, suite)):
        raise SuiteError("`filter_list` of a multiple_choice task is not imported.")
    found = []
    for entry in _metrics(config, "multiple_choice"):
        name = entry["metric"]
        if name not in _OF_CHOICES:
            suite.note(f"metric_list.{name}", "There is no scoring function for it.")
        elif _is_mean(entry, suite):
            found.append(_OF_CHOICES[name])
    return _some(found)


def generated_metrics(config: Mapping[str, Any], task_id: str, suite: Suite) -> list[str]:
    """The scoring functions of a `generate_until` task; those with parameters of their own are put into the suite."""
    pipelines, found = _pipelines(config, suite), []
    for entry in _metrics(config, "generate_until"):
        name = entry["metric"]
        if name == "exact_match" and _is_mean(entry, suite):
            found += [_exact_match(pipeline, entry, task_id, suite) for pipeline in pipelines]
        elif name in _OF_TEXTS and not isinstance(entry.get("aggregation"), Function):
            if any(not _steps(pipeline) for pipeline in pipelines):
                found.append(_OF_TEXTS[name])
                suite.note(f"metric_list.{name}", f"{_OF_TEXTS[name]} is the mean over rows, not that of the corpus.")
            else:
                suite.note(f"metric_list.{name}", "It is carried without filters only.")
        elif name != "exact_match":
            suite.note(f"metric_list.{name}", "There is no scoring function for it.")
    return _some(found)


def _some(found: list[str]) -> list[str]:
    if not found:
        raise SuiteError("None of the task's metrics is carried, so it would have no score.")
    return list(dict.fromkeys(found))


def _metrics(config: Mapping[str, Any], output_type: str) -> list[Mapping[str, Any]]:
    entries = config.get("metric_list") or [{"metric": name} for name in _DEFAULTS[output_type]]
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) and "metric" in entry for entry in entries):
        raise SuiteError("`metric_list` must be a list of mappings with a `metric`.")
    return entries


def _is_mean(entry: Mapping[str, Any], suite: Suite) -> bool:
    aggregation = entry.get("aggregation", "mean")
    if aggregation != "mean":
        suite.note(f"metric_list.{entry['metric']}", f"Its `aggregation` is {aggregation}; only the mean is carried.")
    return bool(aggregation == "mean")


def _pipelines(config: Mapping[str, Any], suite: Suite) -> list[Mapping[str, Any]]:
    """The filter pipelines that can be carried."""
    entries = config.get("filter_list") or [{"name": "none", "filter": [{"function": "take_first"}]}]
    if not isinstance(entries, list):
        raise SuiteError("`filter_list` must be a list.")
    found = []
    for entry in entries:
        name = entry.get("name") if isinstance(entry, Mapping) else None
        steps = entry.get("filter") if isinstance(entry, Mapping) else None
        if not isinstance(name, str) or not isinstance(steps, list) or not all(isinstance(s, Mapping) for s in steps):
            raise SuiteError("`filter_list` must be a list of pipelines with `name` and `filter`.")
        kinds = [step.get("function") for step in _steps(entry)]
        if kinds in ([], ["regex"]):
            found.append(entry)
        else:
            what = ", ".join(str(kind) for kind in kinds)
            suite.note(f"filter_list.{name}", f"{what}: only `take_first` and one `regex` before it are carried.")
    return found


def _steps(pipeline: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a pipeline does to an answer. Of one answer the first is itself."""
    return [step for step in pipeline["filter"] if step.get("function") != "take_first"]


def _exact_match(pipeline: Mapping[str, Any], entry: Mapping[str, Any], task_id: str, suite: Suite) -> str:
    """A scoring function's id: what the filter takes out of an answer, held against what is expected."""
    for key in sorted(entry.keys() - _ABOUT - _OPTIONS):
        suite.note(f"metric_list.exact_match.{key}", "Nothing here reads it.")
    matching: dict[str, Any] = {key: entry[key] for key in sorted(_OPTIONS & entry.keys()) if entry[key] is not None}
    patterns = []
    for step in _steps(pipeline):
        patterns.append(step.get("regex_pattern", r"#### (\-?[0-9\.\,]+)"))
        matching["select"] = step.get("group_select", 0)
        if step.get("fallback", _FALLBACK) != _FALLBACK:
            suite.note(f"filter_list.{pipeline['name']}.fallback", "An answer in which nothing is found is wrong.")
    function_id = f"{task_id}/{pipeline['name']}/exact_match"
    suite.scoring_functions.append(
        {
            "scoring_fn_id": function_id,
            "description": f"exact_match of {task_id} behind its filter {pipeline['name']}.",
            "return_type": {"type": "number"},
            "params": {
                "type": "regex_parser",
                "parsing_regexes": patterns,
                "aggregation_functions": ["accuracy"],
                "matching": matching,
            },
        }
    )
    return function_id

"""The parameters of scoring functions: what a judge is asked, what is read out of texts, how scores are put together."""

from __future__ import annotations

from typing import Any

import pytest

from contract.field_cases.lab import Lab
from contract.field_cases.operations import config, config_field, evaluate, refusal

JUDGE = "llm-as-judge::base"
CHOICE = "basic::regex_parser_multiple_choice_answer"
EQUALITY = "basic::equality"

JUDGE_PARAMS = "scoring_params{}<LLMAsJudgeScoringFnParams>"
REGEX_PARAMS = "scoring_params{}<RegexParserScoringFnParams>"
BASIC_PARAMS = "scoring_params{}<BasicScoringFnParams>"

ROWS = [
    {"question": "1?", "answer": "B", "weight": 1},
    {"question": "2?", "answer": "B", "weight": 1},
    {"question": "3?", "answer": "A", "weight": 6},
]
"""The pupil says B to each: two are right, and weigh as much as a third of the one that is wrong."""


def _answer(body: dict[str, Any]) -> str:
    """The pupil's answer, or the judge's: a verdict of 1 on what was expected to be B, else of 4."""
    prompt = body["messages"][-1]["content"]
    if body["model"] == "pupil":
        return "B"
    return "Score: 4, sure: 9" if "A" in prompt else "Score: 1, sure: 8"


def _scores(lab: Lab, operation: str, function_id: str, params: dict[str, Any]) -> dict[str, Any]:
    """The `ScoringResult` of one function, with these parameters."""
    lab.answer = _answer
    asked = config(scoring_params={function_id: params})
    scores: dict[str, Any] = evaluate(lab, operation, asked, rows=ROWS, functions=[function_id]).scores[function_id]
    return scores


def _column(result: dict[str, Any], name: str) -> list[Any]:
    return [row[name] for row in result["score_rows"]]


JUDGED = {"type": "llm_as_judge", "judge_model": "judge", "prompt_template": "{expected_answer}: {generated_answer}"}


def _type(lab: Lab, operation: str, function_id: str, params: dict[str, Any]) -> None:
    """The function's own type is taken; parameters of another one are refused, naming both."""
    assert len(_scores(lab, operation, function_id, params)["score_rows"]) == len(ROWS)
    for other in {"basic", "regex_parser", "llm_as_judge"} - {params["type"]}:
        wrong = {"type": other, "judge_model": "judge"}
        asked = config(scoring_params={function_id: wrong})
        pointer, message = refusal(lab, operation, asked, functions=[function_id])
        assert pointer == f"/scoring_params/{function_id}/type"
        assert params["type"] in message
        assert other in message


config_field(f"{JUDGE_PARAMS}.type string", function_id=JUDGE, params=JUDGED)(_type)
config_field(f"{REGEX_PARAMS}.type string", function_id=CHOICE, params={"type": "regex_parser"})(_type)
config_field(f"{BASIC_PARAMS}.type string", function_id=EQUALITY, params={"type": "basic"})(_type)


@config_field(f"{JUDGE_PARAMS}.judge_model string")
def judge_model(lab: Lab, operation: str) -> None:
    lab.answer = _answer
    for judge in ("judge", "other-pupil"):
        asked = config(scoring_params={JUDGE: JUDGED | {"judge_model": judge}})
        found = evaluate(lab, operation, asked, rows=ROWS, functions=[JUDGE])
        assert sorted(body["model"] for body in found.asked) == sorted([judge, "pupil"] * len(ROWS))


@config_field(f"{JUDGE_PARAMS}.prompt_template string")
def prompt_template(lab: Lab, operation: str) -> None:
    lab.answer = _answer
    for template, filled in (
        ("{expected_answer}: {generated_answer}", "A: B"),
        ("{input_query} {{x}} {generated_answer}", "3? {{x}} B"),
    ):
        asked = config(scoring_params={JUDGE: JUDGED | {"prompt_template": template}})
        found = evaluate(lab, operation, asked, rows=ROWS, functions=[JUDGE])
        prompts = [body["messages"][0]["content"] for body in found.asked if body["model"] == "judge"]
        assert filled in prompts


@config_field(f"{JUDGE_PARAMS}.judge_score_regexes[] string")
def judge_score_regexes(lab: Lab, operation: str) -> None:
    for regexes, verdicts in (([r"Score: (\d)"], [1, 1, 4]), ([r"no (\d)", r"sure: (\d)"], [8, 8, 9])):
        result = _scores(lab, operation, JUDGE, JUDGED | {"judge_score_regexes": regexes})
        assert _column(result, "score") == verdicts


@config_field(f"{REGEX_PARAMS}.parsing_regexes[] string")
def parsing_regexes(lab: Lab, operation: str) -> None:
    for regexes, read, scores in (([r"^(.)$"], "B", [1.0, 1.0, 0.0]), ([r"^B()$", "C"], "", [0.0, 0.0, 0.0])):
        result = _scores(lab, operation, CHOICE, {"type": "regex_parser", "parsing_regexes": regexes})
        assert _column(result, "extracted_answer") == [read] * len(ROWS)
        assert _column(result, "score") == scores


RIGHT_OR_WRONG = {
    "average": pytest.approx(2 / 3),
    "weighted_average": pytest.approx(2 / 8),
    "median": 1.0,
    "categorical_count": {"0.0": 1, "1.0": 2},
    "accuracy": pytest.approx(2 / 3),
}
"""What becomes of the scores 1, 1, 0 with the rows' weights."""

VERDICTS = {
    "average": pytest.approx(2.0),
    "weighted_average": pytest.approx(26 / 8),
    "median": 1,
    "categorical_count": {"1": 2, "4": 1},
    "accuracy": pytest.approx(2 / 3),
}
"""What becomes of the verdicts 1, 1, 4."""


def _aggregation(
    lab: Lab, operation: str, name: str, function_id: str, params: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Asked for, the number is there; with another function asked for, it is not."""
    other = "median" if name == "average" else "average"
    for chosen in ([name], [other], [other, name]):
        result = _scores(lab, operation, function_id, params | {"aggregation_functions": chosen})
        aggregated = {key: value[key] for key, value in result["aggregated_results"].items()}
        assert aggregated == {key: expected[key] for key in chosen}


for _name in RIGHT_OR_WRONG:
    for _params_of, _function_id, _params, _expected in (
        (JUDGE_PARAMS, JUDGE, JUDGED | {"judge_score_regexes": [r"Score: (\d)"]}, VERDICTS),
        (REGEX_PARAMS, CHOICE, {"type": "regex_parser"}, RIGHT_OR_WRONG),
        (BASIC_PARAMS, EQUALITY, {"type": "basic"}, RIGHT_OR_WRONG),
    ):
        config_field(
            f"{_params_of}.aggregation_functions[]={_name} enum",
            name=_name,
            function_id=_function_id,
            params=_params,
            expected=_expected,
        )(_aggregation)

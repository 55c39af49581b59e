"""A task of lm-evaluation-harness, from its YAML: `output_type` `multiple_choice` or `generate_until`.

Each row's text is put together here as the harness does it (0.4.13), few-shot examples included, and becomes a row's
`question`, which the model continues without a chat template. What is Python in a task (`!function`) is not executed: where
the task means something else without it, it is refused.
"""

from __future__ import annotations

import ast
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddock.client import Client
from paddock.suites import source_rows, yaml_file
from paddock.suites.lm_eval_scoring import chosen_metrics, generated_metrics
from paddock.suites.source_rows import Row
from paddock.suites.suite import Suite, SuiteError
from paddock.suites.templates import Renderer
from paddock.suites.yaml_file import Function

FEWSHOT_SEED = 1234
"""What the harness draws examples with, unless told otherwise."""

MAX_FEWSHOT = 100
_MAX_LITERAL_CHARACTERS = 100_000
_DEFAULT_MAX_TOKENS = 256

_TEXTS = ("doc_to_text", "doc_to_target", "doc_to_choice")
_MEANINGFUL = {
    *_TEXTS,
    *("process_docs", "process_results", "custom_dataset", "doc_to_image", "doc_to_audio", "use_prompt"),
}
"""Without these a task is another one: code in them, or what only the harness has, refuses it."""

_READ = {
    *_TEXTS,
    *("task", "task_alias", "tag", "metadata", "output_type", "dataset_path", "dataset_name", "dataset_kwargs"),
    *("training_split", "validation_split", "test_split", "fewshot_split", "num_fewshot", "fewshot_config"),
    *("description", "target_delimiter", "fewshot_delimiter", "gen_prefix"),
    *("generation_kwargs", "filter_list", "metric_list"),
}
_FEWSHOT_READ = {
    *("sampler", "split", "samples", "doc_to_text", "doc_to_target", "doc_to_choice"),
    *("target_delimiter", "fewshot_delimiter", "gen_prefix"),
}
_UNREAD = {
    "repeats": "Ask for several answers when you run it (--num-samples, with a temperature).",
    "should_decontaminate": "It changes no score.",
    "doc_to_decontamination_query": "It changes no score.",
    "unsafe_code": "No code of the task is run.",
}


@dataclass(frozen=True)
class Asked:
    """A row as the harness asks it. `gold` is an index, a text, or a list of either."""

    text: str
    choices: list[str] | None
    gold: Any


def load(path: Path, client: Client, *, benchmark_id: str | None = None, fewshot_seed: int = FEWSHOT_SEED) -> Suite:
    """The task in a file. Rows on the hub are read by the server of `client`. Raises `SuiteError` for a task that cannot
    mean the same here, and `ClientError`."""
    config = yaml_file.read(path)
    suite = Suite()
    _check(config, suite)
    task_id = benchmark_id or config.get("task")
    if not isinstance(task_id, str):
        raise SuiteError("The file names no `task`: give the benchmark's id.")
    is_choice = config.get("output_type", "generate_until") == "multiple_choice"
    with Renderer() as renderer:
        task = _Task(config, path.resolve().parent, client, renderer, fewshot_seed, suite)
        rows = list(task.rows(is_choice=is_choice))
    functions = chosen_metrics(config, suite) if is_choice else generated_metrics(config, task_id, suite)
    about = {key: config[key] for key in ("task", "task_alias", "tag", "metadata") if key in config}
    metadata: dict[str, Any] = {"lm_eval": json.loads(json.dumps(about, default=str))}
    suite.datasets.append({"dataset_id": task_id, "purpose": "eval/question-answer", "metadata": metadata})
    suite.rows[task_id] = [json.dumps(row, ensure_ascii=False).encode() for row in rows]
    if not is_choice:
        metadata = metadata | {"asking": _asking(config, task.fewshot_delimiter, suite)}
    suite.benchmarks.append(
        {"benchmark_id": task_id, "dataset_id": task_id, "scoring_functions": functions, "metadata": metadata}
    )
    return suite


def _check(config: Mapping[str, Any], suite: Suite) -> None:
    """Raise `SuiteError` for what cannot be imported; what is passed over goes into the report."""
    if "group" in config or isinstance(config.get("task"), list):
        raise SuiteError("This is a group of tasks: import the file of each task.")
    output_type = config.get("output_type", "generate_until")
    if output_type not in ("multiple_choice", "generate_until"):
        raise SuiteError(f"`output_type` {output_type!r}: only multiple_choice and generate_until are imported.")
    for key in sorted(_MEANINGFUL & config.keys()):
        if isinstance(config[key], Function):
            raise SuiteError(
                f"`{key}` is Python code ({config[key].name}), which is not run: without it this is another task."
            )
        if key not in _TEXTS and config[key] is not None:
            raise SuiteError(f"`{key}` is not understood here, and without it this is another task.")
    for key in _READ & config.keys() - {"metric_list", "filter_list", "generation_kwargs", "metadata"}:
        for place, function in _functions(key, config[key]):
            raise SuiteError(
                f"`{place}` is Python code ({function.name}), which is not run: without it this is another task."
            )
    for key in sorted(config.keys() - _READ - _MEANINGFUL):
        suite.note(key, _UNREAD.get(key, "Nothing here reads it."))


def _functions(place: str, value: Any) -> Iterator[tuple[str, Function]]:
    if isinstance(value, Function):
        yield place, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _functions(f"{place}.{key}", item)
    elif isinstance(value, list):
        for item in value:
            yield from _functions(place, item)


def _asking(config: Mapping[str, Any], fewshot_delimiter: str, suite: Suite) -> dict[str, Any]:
    """How answers end; sampling is asked for with each job."""
    given = config.get("generation_kwargs")
    kwargs = dict(given) if isinstance(given, Mapping) else {}
    until = kwargs.pop("until", [fewshot_delimiter])
    max_tokens = kwargs.pop("max_gen_toks", _DEFAULT_MAX_TOKENS)
    is_drawn = bool(kwargs.pop("do_sample", False))
    temperature = kwargs.pop("temperature", 0.0)
    if is_drawn and temperature != 0:
        suite.note("generation_kwargs.temperature", f"Ask for it when you run it (--temperature {temperature}).")
    for key in kwargs:
        suite.note(f"generation_kwargs.{key}", "Ask for it when you run it, if there is an option for it.")
    stop = [until] if isinstance(until, str) else until
    if not isinstance(stop, list) or not all(isinstance(text, str) for text in stop):
        raise SuiteError("`generation_kwargs.until` must be a text or a list of texts.")
    return {"manner": "completion", "max_tokens": max_tokens, "stop": [text for text in stop if text]}


class _Task:
    """A task's rows, and how each is asked."""

    def __init__(
        self, config: Mapping[str, Any], folder: Path, client: Client, renderer: Renderer, seed: int, suite: Suite
    ) -> None:
        self._config = config
        self._folder = folder
        self._client = client
        self._renderer = renderer
        self._random = random.Random(seed)  # noqa: S311 -- which examples are shown is no secret
        self._splits: dict[str, list[Row]] = {}
        fewshot = config.get("fewshot_config") or {}
        if not isinstance(fewshot, Mapping):
            raise SuiteError("`fewshot_config` must be a mapping.")
        for key in sorted(fewshot.keys() - _FEWSHOT_READ):
            suite.note(f"fewshot_config.{key}", "Nothing here reads it.")
        self._fewshot = fewshot
        self.fewshot_delimiter = _text(config, "fewshot_delimiter", "\n\n")
        self._target_delimiter = _text(config, "target_delimiter", " ")
        self._num_fewshot = config.get("num_fewshot") or 0
        if not isinstance(self._num_fewshot, int) or not 0 <= self._num_fewshot <= MAX_FEWSHOT:
            raise SuiteError(f"`num_fewshot` must be a whole number up to {MAX_FEWSHOT}.")

    def rows(self, *, is_choice: bool) -> Iterator[Row]:
        """What becomes of each row, in order."""
        split = self._config.get("test_split") or self._config.get("validation_split")
        if not split:
            raise SuiteError("The task names neither a `test_split` nor a `validation_split`.")
        docs = self._docs(split)
        if not docs:
            raise SuiteError(f"The split {split!r} has no rows.")
        asked = self._asked(docs, {})
        descriptions = self._rendered(_text(self._config, "description", ""), docs, "description")
        prefixes = self._prefixes(docs, self._config)
        has_several = isinstance(asked[0].gold, list)
        for one, description, prefix, shown in zip(asked, descriptions, prefixes, self._examples(docs), strict=True):
            text = one.text
            if prefix:
                text += (self._target_delimiter if _needs_delimiter(text, prefix) else "") + prefix
            question = description + shown + text
            if is_choice:
                yield self._choice_row(question, one)
            else:
                yield _generated_row(question, one, has_several=has_several)

    def _choice_row(self, question: str, asked: Asked) -> Row:
        choices = asked.choices
        if choices is None or len(choices) < 2:
            raise SuiteError("`doc_to_choice` gives fewer than two choices.")
        gold = asked.gold
        if isinstance(gold, str) and gold in choices:
            gold = choices.index(gold)
        right = gold if isinstance(gold, list) else [gold]
        if not right or not all(isinstance(i, int) and 0 <= i < len(choices) for i in right):
            raise SuiteError(f"`doc_to_target` gives {gold!r}, which names none of the choices {choices!r}.")
        return {
            "question": question,
            "choices": choices,
            "answer": json.dumps(gold) if isinstance(gold, list) else gold,
            "target_delimiter": self._target_delimiter,
        }

    # ------------------------------------------------------------------------------------------------ examples

    def _examples(self, docs: Sequence[Row]) -> Iterator[str]:
        """The text of the examples before each row."""
        if self._num_fewshot == 0:
            yield from ("" for _ in docs)
            return
        split = self._fewshot.get("split", self._config.get("fewshot_split"))
        pool = self._pool(split)
        # As the harness compares them: where both are left out, too.
        is_same_split = split == self._config.get("test_split")
        texts = self._example_texts(pool)
        sampler = self._fewshot.get("sampler", "default")
        for doc in docs:
            excluded = doc if is_same_split else None
            if sampler == "first_n":
                chosen = [i for i, other in enumerate(pool) if excluded is None or other != excluded]
            elif sampler == "default":
                chosen = self._drawn(pool, excluded)
            else:
                raise SuiteError(f"`fewshot_config.sampler` {sampler!r} is neither first_n nor default.")
            if len(chosen) < self._num_fewshot:
                raise SuiteError(f"`num_fewshot` is {self._num_fewshot}, and there are {len(chosen)} examples.")
            yield "".join(texts[i] for i in chosen[: self._num_fewshot])

    def _drawn(self, pool: Sequence[Row], excluded: Row | None) -> list[int]:
        """As the harness draws them, one after the other from one generator."""
        num = self._num_fewshot
        if len(pool) < num + (excluded is not None):
            raise SuiteError(f"`num_fewshot` is {num}, and there are too few examples to draw from.")
        if excluded is None:
            return self._random.sample(range(len(pool)), num)
        drawn = [i for i in self._random.sample(range(len(pool)), num + 1) if pool[i] != excluded][:num]
        if len(drawn) == num:
            return drawn
        others = [i for i, other in enumerate(pool) if other != excluded]
        return self._random.sample(others, num) if len(others) >= num else others

    def _pool(self, split: str | None) -> Sequence[Row]:
        samples = self._fewshot.get("samples")
        if split is None and samples is not None:
            if not isinstance(samples, list) or not all(isinstance(sample, dict) for sample in samples):
                raise SuiteError("`fewshot_config.samples` must be a list of rows.")
            return samples
        names = ("training_split", "validation_split", "test_split")
        split = split or next((self._config[name] for name in names if self._config.get(name)), None)
        assert split is not None, "the rows themselves came from a split"
        return self._docs(split)

    def _example_texts(self, pool: Sequence[Row]) -> list[str]:
        target_delimiter = _text(self._fewshot, "target_delimiter", self._target_delimiter)
        delimiter = _text(self._fewshot, "fewshot_delimiter", self.fewshot_delimiter)
        prefixes = self._prefixes(pool, self._fewshot if "gen_prefix" in self._fewshot else self._config)
        texts = []
        for asked, prefix in zip(self._asked(pool, self._fewshot), prefixes, strict=True):
            gold = asked.gold
            answer = asked.choices[gold] if asked.choices and isinstance(gold, int) else gold
            if isinstance(answer, list):
                answer = answer[0] if answer else ""
                if isinstance(answer, int) and asked.choices:
                    raise SuiteError("Examples with several right choices are not shown by the harness.")
            if not isinstance(answer, str):
                raise SuiteError(f"`doc_to_target` gives {answer!r} for an example, which is no text.")
            if prefix:
                between = target_delimiter if _needs_delimiter(asked.text, prefix) else ""
                answer = prefix + (" " if _needs_delimiter(prefix, answer) else "") + answer
            else:
                between = target_delimiter if answer else ""
            texts.append(asked.text + between + answer + (delimiter if answer else ""))
        return texts

    # ------------------------------------------------------------------------------------------------ fields of rows

    def _docs(self, split: str) -> list[Row]:
        if split not in self._splits:
            self._splits[split] = self._load(str(split))
        return self._splits[split]

    def _load(self, split: str) -> list[Row]:
        config = self._config
        path, kwargs = config.get("dataset_path"), dict(config.get("dataset_kwargs") or {})
        kwargs.pop("trust_remote_code", None)
        if not isinstance(path, str):
            raise SuiteError("The task names no `dataset_path`.")
        if path in source_rows.FILE_FORMATS:
            data_files = kwargs.pop("data_files", None)
            if kwargs:
                raise SuiteError(f"`dataset_kwargs.{next(iter(kwargs))}` is not understood here.")
            return source_rows.from_files(self._folder, path, data_files, split)
        return source_rows.from_hub(self._client, path, config.get("dataset_name"), kwargs, split)

    def _asked(self, docs: Sequence[Row], above: Mapping[str, Any]) -> list[Asked]:
        """Each row's text, choices and gold; `above` has what examples are written with instead."""
        text, target, choice = (above.get(key) or self._config.get(key) for key in _TEXTS)
        if text is None or target is None:
            raise SuiteError("The task has no `doc_to_text`, or no `doc_to_target`.")
        texts = self._rendered(text, docs, "doc_to_text")
        has_choices = self._config.get("doc_to_choice") is not None
        choices: Sequence[list[str] | None] = [None] * len(docs)
        if has_choices:
            choices = [_choices(value) for value in self._values(choice, docs, "doc_to_choice")]
        golds = [
            _gold(value, is_template=not _is_field(target, docs), has_choices=has_choices)
            for value in self._values(target, docs, "doc_to_target")
        ]
        is_field = _is_field(text, docs)
        for one in texts:
            if not isinstance(one, str) or (has_choices and not is_field and one.isdigit()):
                raise SuiteError(
                    "`doc_to_text` gives numbers: tasks whose choices stand in the question are not imported."
                )
        return [Asked(*found) for found in zip(texts, choices, golds, strict=True)]

    def _values(self, field: Any, docs: Sequence[Row], key: str) -> Sequence[Any]:
        if isinstance(field, dict):
            field = list(field.values())
        return self._rendered(field, docs, key) if isinstance(field, str) else [field] * len(docs)

    def _rendered(self, field: Any, docs: Sequence[Row], key: str) -> Sequence[Any]:
        if not isinstance(field, str):
            raise SuiteError(f"`{key}` must be a text.")
        if _is_field(field, docs):
            return [doc.get(field) for doc in docs]
        return self._renderer.render(field, docs, key)

    def _prefixes(self, docs: Sequence[Row], config: Mapping[str, Any]) -> Sequence[str]:
        prefix = config.get("gen_prefix")
        if prefix is None:
            return [""] * len(docs)
        return [str(value) for value in self._rendered(prefix, docs, "gen_prefix")]


def _generated_row(question: str, asked: Asked, *, has_several: bool) -> Row:
    gold = asked.gold
    if asked.choices is not None:
        if not isinstance(gold, int) or not 0 <= gold < len(asked.choices):
            raise SuiteError(f"`doc_to_target` gives {gold!r}, which names none of the choices {asked.choices!r}.")
        gold = asked.choices[gold]
    if not has_several:
        return {"question": question, "answer": str(gold)}
    answers = [str(one) for one in (gold if isinstance(gold, list) else [gold])]
    if not answers:
        raise SuiteError("`doc_to_target` gives an empty list for a row.")
    return {"question": question, "answer": answers[0], "answers": answers}


def _is_field(name: Any, docs: Sequence[Row]) -> bool:
    return bool(docs) and name in docs[0]


def _choices(value: Any) -> list[str]:
    found = _literal(value) if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(choice, str) and choice for choice in found):
        raise SuiteError(f"`doc_to_choice` gives {value!r}, which is no list of texts.")
    return found


def _gold(value: Any, *, is_template: bool, has_choices: bool) -> Any:
    """What a rendered target stands for: a number where there are choices, a list where it is written as one."""
    if not is_template or not isinstance(value, str):
        return value
    if (value.isdigit() and has_choices) or (len(value) >= 2 and value[0] == "[" and value[-1] == "]"):
        found = _literal(value)
        return value if found is None else found
    return value


def _literal(text: str) -> Any:
    """A literal of Python, as the harness writes lists; None if it is none."""
    if len(text) > _MAX_LITERAL_CHARACTERS:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def _needs_delimiter(before: str, after: str) -> bool:
    return bool(before) and bool(after) and not (before[-1].isspace() or after[0].isspace())


def _text(config: Mapping[str, Any], key: str, default: str) -> str:
    value = config.get(key)
    if value is None:
        return default
    if not isinstance(value, str):
        raise SuiteError(f"`{key}` must be a text.")
    return value

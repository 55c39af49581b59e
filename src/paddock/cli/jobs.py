"""`paddock jobs`: every job, whatever its kind."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import click
from rich.table import Table

from paddock import terminal
from paddock.cli import curve
from paddock.cli.options import follow_job, json_option, speaks_to_server
from paddock.client import FINAL_STATUSES, Client, quoted

_DRAWN_FIRST = ("loss", "validation_loss", "value")


@click.group()
def jobs() -> None:
    """Jobs of every kind: list, show, events, logs, metrics, watch, prioritize, cancel, prune."""


@jobs.command("list")
@click.option("--kind", help="Only jobs of this kind: eval, sft, dpo, search.")
@click.option("--status", type=click.Choice(["scheduled", "in_progress", *FINAL_STATUSES]), help="Only those.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="The newest so many.")
@speaks_to_server
@json_option
def list_(client: Client, kind: str | None, status: str | None, limit: int, as_json: bool) -> None:
    """List jobs, the newest first.

    Example: paddock jobs list --kind sft --status in_progress"""
    found = list(client.jobs(kind=kind, status=status, limit=limit))
    if as_json:
        terminal.print_json(found)
        return
    terminal.out().print(as_table(found))


@jobs.command()
@click.argument("job_id")
@speaks_to_server
@json_option
def show(client: Client, job_id: str, as_json: bool) -> None:
    """Show one job: how far it is, what happened to it, why it failed.

    Example: paddock jobs show my-first"""
    path = f"/v1alpha/jobs/{quoted(job_id)}"
    job = client.get(path)
    events = client.get(f"{path}/events")["data"]
    if as_json:
        terminal.print_json({**job, "events": events})
        return
    console = terminal.out()
    table = terminal.table("Job", job_id)
    table.add_row("kind", job["kind"])
    if job["benchmark_id"] is not None:
        table.add_row("benchmark", terminal.cell(job["benchmark_id"]))
    table.add_row("status", job["status"])
    table.add_row("progress", terminal.progress_text(job["progress"]))
    table.add_row("took", _took(job))
    for name, value in (job["resources"] or {}).items():
        table.add_row(terminal.cell(name), terminal.cell(value))
    if job["priority"]:
        table.add_row("priority", str(job["priority"]))
    if job["not_before"] is not None:
        table.add_row("put off until", f"{_time(job['not_before']):%Y-%m-%d %H:%M:%S}")
        table.add_row("because", terminal.cell(job["put_off"]))
    if job["error"] is not None:
        table.add_row("error", terminal.cell(job["error"]))
        table.add_row("again", "may go better" if job["retryable"] else "would fail the same way")
    console.print(table)
    if job["log_tail"]:
        console.print("\nThe last lines of its log:", style="dim")
        click.echo(job["log_tail"])
    console.print()
    history = terminal.table("When", "Attempt", "What happened", numbers=("Attempt",))
    for event in events:
        what = event["event"] if event["detail"] is None else f"{event['event']}: {event['detail']}"
        history.add_row(
            f"{datetime.fromtimestamp(event['at']):%Y-%m-%d %H:%M:%S}", str(event["attempt"]), terminal.cell(what)
        )
    console.print(history)


@jobs.command()
@click.argument("job_id")
@click.option("-f", "--follow", "follows", is_flag=True, help="Go on until the job has ended.")
@click.option("--attempt", type=click.IntRange(min=1), help="An earlier attempt (default: the last one).")
@speaks_to_server
def logs(client: Client, job_id: str, follows: bool, attempt: int | None) -> None:
    """Print what a job's process said.

    Example: paddock jobs logs -f my-first"""
    for piece in client.log(job_id, attempt=attempt, follow=follows):
        click.echo(piece, nl=False)


@jobs.command()
@click.argument("job_id")
@click.option("-f", "--follow", "follows", is_flag=True, help="Go on until the job has ended.")
@click.option("--after", type=click.IntRange(min=0), default=0, help="Only those after this event's number.")
@speaks_to_server
@json_option
def events(client: Client, job_id: str, follows: bool, after: int, as_json: bool) -> None:
    """Print what happened to a job, one line each.

    Example: paddock jobs events -f my-first"""
    for event in client.events(job_id, after=after, follow=follows):
        if as_json:
            click.echo(json.dumps(event, ensure_ascii=False))
            continue
        detail = "" if event["detail"] is None else f": {event['detail']}"
        when = datetime.fromtimestamp(event["at"])
        click.echo(
            f"{event['event_id']}  {when:%Y-%m-%d %H:%M:%S}  attempt {event['attempt']}  {event['event']}{detail}"
        )


@jobs.command()
@click.argument("job_id")
@click.argument("priority", type=click.IntRange(-1000, 1000))
@speaks_to_server
def prioritize(client: Client, job_id: str, priority: int) -> None:
    """Let a scheduled job run before those of lower PRIORITY (0 where nobody said otherwise).

    Example: paddock jobs prioritize my-first 10"""
    client.post(f"/v1alpha/jobs/{quoted(job_id)}/priority", {"priority": priority})
    click.echo(f"The job {job_id} waits with priority {priority}.")


@jobs.command()
@click.option("--logs", "logs_days", type=click.FloatRange(min=0), help="Delete logs of jobs that ended DAYS ago.")
@click.option("--jobs", "jobs_days", type=click.FloatRange(min=0), help="Delete jobs that ended DAYS ago, and results.")
@speaks_to_server
def prune(client: Client, logs_days: float | None, jobs_days: float | None) -> None:
    """Clear away what ended jobs left behind. Jobs that made checkpoints stay, and so do the checkpoints.

    Example: paddock jobs prune --logs 30 --jobs 365"""
    if logs_days is None and jobs_days is None:
        raise click.UsageError("Say what to clear away: --logs DAYS, --jobs DAYS, or both.")
    body = {"logs_older_than_days": logs_days, "jobs_older_than_days": jobs_days}
    pruned = client.post("/v1alpha/jobs/prune", body)
    click.echo(f"Deleted {pruned['num_jobs']} jobs, and the logs of {pruned['num_logs']}.")


@jobs.command()
@click.argument("job_id")
@click.option("--series", "names", multiple=True, help="Draw this one; may be given several times (default: the loss).")
@speaks_to_server
@json_option
def metrics(client: Client, job_id: str, names: tuple[str, ...], as_json: bool) -> None:
    """Draw what a job has measured by step: a training's loss, a search's values.

    Example: paddock jobs metrics my-first --series loss --series lr"""
    points = client.get(f"/v1alpha/jobs/{quoted(job_id)}/metrics")["data"]
    if as_json:
        terminal.print_json(points)
        return
    series: dict[str, list[tuple[int, float]]] = {}
    for point in points:
        for name, value in point.items():
            if name not in ("step", "at") and isinstance(value, int | float):
                series.setdefault(name, []).append((point["step"], float(value)))
    unknown = [name for name in names if name not in series]
    if unknown or not series:
        there = f"It has {', '.join(series)}." if series else "It has measured nothing yet."
        raise click.ClickException(f"The job {job_id} has no series {', '.join(unknown) or 'to show'}. {there}")
    drawn = names or tuple(name for name in _DRAWN_FIRST if name in series) or tuple(series)[:1]
    for name in drawn:
        click.echo("\n".join([name, *curve.draw(series[name]), ""]))
    others = terminal.table("Series", "First", "", "Last", "Points", numbers=("First", "Last", "Points"))
    for name, values in series.items():
        numbers = [value for _, value in values]
        others.add_row(
            terminal.cell(name),
            f"{numbers[0]:.4g}",
            terminal.sparkline(numbers),
            f"{numbers[-1]:.4g}",
            str(len(numbers)),
        )
    terminal.out().print(others)


@jobs.command()
@click.argument("job_id")
@speaks_to_server
@json_option
def watch(client: Client, job_id: str, as_json: bool) -> None:
    """Follow a job until it has ended. Exit code 0 if it completed.

    Example: paddock jobs watch my-first"""
    job, _ = follow_job(client, job_id, job_id)
    if as_json:
        terminal.print_json(job)
        return
    click.echo(f"The job {job_id} is completed; it took {_took(job)}.")


@jobs.command()
@click.argument("job_id")
@speaks_to_server
def cancel(client: Client, job_id: str) -> None:
    """Cancel a scheduled or running job.

    Example: paddock jobs cancel my-first"""
    client.delete(f"/v1alpha/jobs/{quoted(job_id)}")
    click.echo(f"The job {job_id} is cancelled.")


def as_table(found: list[dict[str, Any]]) -> Table:
    """Jobs, a line each."""
    table = terminal.table("Job", "Kind", "Status", "Progress", "Took", numbers=("Progress", "Took"))
    for job in found:
        progress = terminal.progress_text(job["progress"])
        table.add_row(terminal.cell(job["job_id"]), job["kind"], job["status"], progress, _took(job))
    return table


def _took(job: dict[str, Any]) -> str:
    if job["started_at"] is None:
        return ""
    ended_at = datetime.now().astimezone() if job["ended_at"] is None else _time(job["ended_at"])
    return terminal.duration(max(0.0, (ended_at - _time(job["started_at"])).total_seconds()))


def _time(text: str) -> datetime:
    """A time of an answer, in this machine's zone."""
    return datetime.fromisoformat(text).astimezone()

"""Bundles: everything in them, the same result from them, and nothing from a stranger's."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from evaluation_world import World, candidate
from model_server import last_user_text
from paddock import wire
from paddock.datasets import registration as dataset_registration
from paddock.datasets.sources import Access
from paddock.errors import ConflictError, InvalidRequestError
from paddock.evaluation import answer, bundle, registration
from paddock.evaluation.rescore import rescore, score_by
from paddock.jobs.progress import Progress

MakeWorld = Callable[..., World]
ROWS = [
    {"question": f"q{i}", "answer": f"a{i % 3}", "weight": 1 + i % 2, "cluster": str(i // 2), "n": 2**60}
    for i in range(20)
]
FUNCTIONS = ("basic::equality", "basic::regex_parser_multiple_choice_answer", "text::f1", "llm-as-judge::base", "own")


def reply(body: dict[str, Any]) -> str | web.Response:
    """A pupil that is refused once, and a judge that answers by what it reads and once says nothing of use."""
    text = last_user_text(body)
    if body["model"] == "judge":
        return "I cannot say." if "q7" in text else f"Well.\nScore: {len(text) % 3}"
    if "q3" in text:
        return web.json_response({"error": {"message": "No."}}, status=400)
    return f"a{int(text[1:]) % 2}"


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    world = make_world(reply)
    world.add_dataset(ROWS)
    world.add_dataset(
        [{"question": "q", "answer": "a", "generated_answer": f"g{i}", "label": i % 2} for i in range(8)], "told"
    )
    entry = {
        "scoring_fn_id": "own",
        "description": "d",
        "return_type": {"type": "number"},
        "params": {
            "type": "regex_parser",
            "parsing_regexes": ["(a)(?=1)"],
            "aggregation_functions": ["accuracy", "median"],
        },
    }
    registration.register_scoring_function_entry(world.evaluation, world.inference, entry)
    entry = {
        "benchmark_id": "bench",
        "dataset_id": "exam",
        "scoring_functions": list(FUNCTIONS),
        "metadata": {"judge_calibration": {"dataset_id": "told"}},
    }
    registration.register_benchmark_entry(world.evaluation, world.datasets, entry)
    return world


JUDGED = {
    "scoring_params": {
        "llm-as-judge::base": {
            "type": "llm_as_judge",
            "judge_model": "judge",
            "num_repeats": 2,
            "aggregation_functions": ["average", "weighted_average", "categorical_count"],
        }
    }
}


def exported(
    world: World, config: dict[str, Any], path: Path, meanwhile: Callable[[Progress], None] | None = None
) -> str:
    """The file of a job's bundle, and the aggregates that the server tells of it."""
    job = world.run(world.submit(config), **({} if meanwhile is None else {"meanwhile": meanwhile}))
    if not job.status.is_final:
        world.jobs.cancel(job.job_id)
        job = world.jobs.get(job.job_id)
    bundle.check(job, world.datasets)
    path.write_bytes(b"".join(bundle.write(job, world.evaluation.results, world.datasets)))
    told = json.loads("".join(answer.stream(job, world.evaluation.results)))
    return wire.to_json({name: scores["aggregated_results"] for name, scores in told["scores"].items()})


SAMPLED = {"strategy": {"type": "top_p", "temperature": 1.0}}


@pytest.mark.parametrize(
    "config",
    [candidate() | JUDGED, candidate(**SAMPLED) | JUDGED | {"num_samples": 3, "pass_at_k": [1, 3], "seed": 5}],
    ids=["greedy", "samples"],
)
def test_the_same_result_comes_out_byte_for_byte_and_nobody_is_asked(
    world: World, config: dict[str, Any], tmp_path: Path
) -> None:
    told = exported(world, config, tmp_path / "b.zip")
    num_asked = len(world.server.requests)
    source = bundle.read(tmp_path / "b.zip")
    assert source.text(bundle.AGGREGATES) == told
    assert wire.to_json(rescore(source)) == told
    assert len(world.server.requests) == num_asked
    judged = json.loads(told)["llm-as-judge::base"]
    assert judged["corrected"]["num_calibrated"] == 8
    assert judged["average"]["num_failed"] > 0
    assert judged["agreement"]["num_verdicts"] > 0


def test_a_job_that_was_cancelled_has_one_too(world: World, tmp_path: Path) -> None:
    def stop_in_the_middle(progress: Progress) -> None:
        def until_then(body: dict[str, Any]) -> str | web.Response:
            if len(world.server.requests) >= 25:
                progress.ask_to_stop()
            return reply(body)

        world.server.answer = until_then

    told = exported(world, candidate() | JUDGED, tmp_path / "b.zip", stop_in_the_middle)
    assert 0 < json.loads(told)["basic::equality"]["accuracy"]["num_total"] < 20
    assert wire.to_json(rescore(bundle.read(tmp_path / "b.zip"))) == told


def test_what_is_in_it(world: World, tmp_path: Path) -> None:
    exported(world, candidate(max_tokens=9) | JUDGED, tmp_path / "b.zip")
    source = bundle.read(tmp_path / "b.zip")
    manifest = source.manifest
    assert list(source.rows(bundle.ROWS)) == ROWS
    assert manifest["dataset"]["num_rows"] == 20
    assert manifest["dataset"]["rows_sha256"] == manifest["files"]["rows.jsonl"]["sha256"]
    assert manifest["request"]["plan"]["candidate"]["sampling"]["max_tokens"] == 9
    assert "{generated_answer}" in manifest["request"]["plan"]["functions"][3]["params"]["prompt_template"]
    assert {"paddock", "regex", "google-re2"} <= manifest["versions"].keys()
    generations = list(source.lines(bundle.GENERATIONS))
    assert (generations[0]["generated_answer"], "error" in generations[3]) == ("a0", True)
    verdicts = list(source.lines(bundle.scores_file(3)))
    assert [verdict["judge_feedback"][:5] for verdict in verdicts[0]["verdicts"]] == ["Well.", "Well."]
    assert verdicts[7]["judge_feedback"] == "I cannot say."


def test_the_same_job_gives_the_same_bytes(world: World) -> None:
    job = world.run(world.submit(candidate() | JUDGED))
    once, again = (b"".join(bundle.write(job, world.evaluation.results, world.datasets)) for _ in range(2))
    assert once == again


def test_rows_keep_their_digits_and_line_breaks_between_values(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world(lambda _: "a")
    text = '{"question":\n"q",\r\n "answer": "a", "x": 1.10, "y": 1e400, "z": "line\\nbreak"}'
    source = {
        "type": "uri",
        "uri": "data:application/json," + "[" + text.replace("\n", "%0A").replace("\r", "%0D") + "]",
    }
    entry = {"dataset_id": "exam", "purpose": "eval/question-answer", "source": source}
    dataset_registration.register_entry(world.datasets, Access(), entry)
    world.add_benchmark()
    exported(world, candidate(), tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        (line,) = archive.read("rows.jsonl").decode().splitlines()
    assert all(digits in line for digits in ("1.10", "1e400", "line\\nbreak"))


def test_other_functions_run_over_the_old_generations(world: World, tmp_path: Path) -> None:
    exported(world, candidate() | JUDGED, tmp_path / "b.zip")
    source = bundle.read(tmp_path / "b.zip")
    params = {"mine": {"type": "regex_parser", "parsing_regexes": ["a(.)"], "aggregation_functions": ["accuracy"]}}
    found = score_by(source, ["basic::subset_of", "mine"], params)
    accuracy = found["basic::subset_of"]["accuracy"]
    assert (accuracy["num_correct"], accuracy["num_total"], accuracy["num_failed"]) == (
        sum(i % 2 == i % 3 for i in range(20) if i != 3),
        20,
        1,
    )
    assert found["mine"]["accuracy"]["num_total"] == 20


@pytest.mark.parametrize(
    ("function_id", "params", "reason"),
    [
        ("no::such", {}, "no scoring function 'no::such'"),
        ("llm-as-judge::base", {}, "asks a judge"),
        ("text::f1", {"text::f1": {"type": "regex_parser"}}, "takes parameters of the type 'basic'"),
        ("text::f1", {"text::f1": {"type": "nonsense"}}, "cannot be read"),
    ],
)
def test_functions_that_cannot_run_here(
    world: World, tmp_path: Path, function_id: str, params: dict[str, Any], reason: str
) -> None:
    exported(world, candidate() | JUDGED, tmp_path / "b.zip")
    with pytest.raises(InvalidRequestError, match=reason):
        score_by(bundle.read(tmp_path / "b.zip"), [function_id], params)


def test_a_job_that_runs_or_whose_rows_are_gone_has_none(world: World) -> None:
    job_id = world.submit(candidate() | JUDGED)
    with pytest.raises(ConflictError, match="once it has ended"):
        bundle.check(world.jobs.get(job_id), world.datasets)
    world.run(job_id)
    world.evaluation.benchmarks.remove("bench")
    world.datasets.remove("exam")
    with pytest.raises(ConflictError, match="'exam' that the job"):
        bundle.check(world.jobs.get(job_id), world.datasets)


# ------------------------------------------------------------------------------------------------ a stranger's


def rewritten(path: Path, changes: dict[str, bytes | None], *, more: list[tuple[str, bytes]] = ()) -> Path:
    """The bundle with some of its files exchanged (None: left out) and others added."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files = {name: changes.get(name, data) for name, data in files.items()}
    new = path.with_name("changed.zip")
    with zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in [*files.items(), *more]:
            if data is not None:
                archive.writestr(name, data)
    return new


def resealed(path: Path, name: str, data: bytes) -> Path:
    """The bundle with a file exchanged, and a manifest that vouches for it."""
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read(bundle.MANIFEST))
    manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "num_bytes": len(data), "num_lines": 1}
    return rewritten(path, {name: data, bundle.MANIFEST: json.dumps(manifest).encode()})


@pytest.fixture
def path(make_world: MakeWorld, tmp_path: Path) -> Path:
    world = make_world(lambda _: "a0")
    world.add_dataset(ROWS)
    world.add_benchmark()
    exported(world, candidate(), tmp_path / "b.zip")
    return tmp_path / "b.zip"


def test_what_is_no_zip(tmp_path: Path) -> None:
    (tmp_path / "b.zip").write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        bundle.read(tmp_path / "b.zip")


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(InvalidRequestError, match="is no bundle"):
        bundle.read(tmp_path / "b.zip")


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "scores/../x", "scores/0.jsonl/x", "C:\\x"])
def test_a_name_that_no_bundle_has(path: Path, name: str) -> None:
    new = rewritten(path, {}, more=[(name, b"x")])
    with pytest.raises(InvalidRequestError):
        bundle.read(new)


def test_a_file_that_was_changed_is_missing_or_is_not_told(path: Path) -> None:
    for changes, reason in (
        ({bundle.GENERATIONS: b"null\n" * 20}, "was changed|longer"),
        ({bundle.GENERATIONS: None}, "not those of its manifest"),
        ({bundle.MANIFEST: None}, "is no bundle"),
        ({bundle.MANIFEST: b"{"}, "manifest cannot be read"),
        ({bundle.MANIFEST: b"[]"}, "does not say"),
        ({bundle.MANIFEST: b'{"format": "' + bundle.FORMAT.encode() + b'"}'}, "manifest cannot be read"),
    ):
        with pytest.raises(InvalidRequestError, match=reason):
            bundle.read(rewritten(path, changes))
    with pytest.raises(InvalidRequestError, match="not those of its manifest"):
        bundle.read(rewritten(path, {}, more=[("scores/7.jsonl", b"")]))


def test_a_file_that_unfolds_to_more_than_it_says(path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="longer than its manifest says"):
        bundle.read(rewritten(path, {bundle.ROWS: b" " * 50_000_000}))


def test_a_manifest_that_is_too_long(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MAX_MANIFEST_BYTES", 100)
    with pytest.raises(InvalidRequestError, match="longer than 100 bytes"):
        bundle.read(path)


def test_a_line_that_is_too_long(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = bundle.read(path)
    monkeypatch.setattr(bundle, "MAX_LINE_BYTES", 10)
    with pytest.raises(InvalidRequestError, match="longer than 10 bytes"):
        rescore(source)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (bundle.GENERATIONS, b"null\n"),
        (bundle.GENERATIONS, b"7\n" * 20),
        (bundle.GENERATIONS, b"{\n" * 20),
        (bundle.ROWS, b"[]\n" * 20),
        (bundle.scores_file(0), b"\n" * 20),
    ],
)
def test_nonsense_that_has_the_right_digest(path: Path, name: str, data: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="no evaluation that was exported"):
        rescore(bundle.read(resealed(path, name, data)))

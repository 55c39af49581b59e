"""A judge that is calibrated on labelled answers, in jobs that ran."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from evaluation_world import World, candidate
from model_server import last_user_text
from paddock.errors import InvalidRequestError
from paddock.evaluation import answer, registration
from paddock.evaluation.statistics import judge_correction
from paddock.evaluation.statistics.judge_correction import Calibration

JUDGE = "llm-as-judge::base"
NUM_ROWS = 30


def pupil_and_judge(body: dict[str, Any]) -> Any:
    """The pupil answers every third question well. The judge also likes answers that end in 9 or 19."""
    text = last_user_text(body)
    if body["model"] == "pupil":
        return f"good {text}" if int(text) % 3 == 0 else f"bad {text}"
    return "Score: 1" if text.startswith("good") or text.endswith("9") else "Score: 0"


def labelled(num_good: int = 20, num_bad: int = 20) -> list[dict[str, Any]]:
    good = [{"generated_answer": f"good {i}", "label": True} for i in range(num_good)]
    return good + [{"generated_answer": f"bad {i}", "label": False} for i in range(num_bad)]


def make(make_world: Callable[..., World], calibration_rows: list[dict[str, Any]], **metadata: Any) -> World:
    world = make_world(pupil_and_judge)
    world.add_dataset([{"question": str(i), "answer": "-"} for i in range(NUM_ROWS)])
    world.add_dataset(calibration_rows, "labelled")
    entry = {
        "benchmark_id": "bench",
        "dataset_id": "exam",
        "scoring_functions": [JUDGE, "basic::equality"],
        "metadata": {"judge_calibration": {"dataset_id": "labelled"} | metadata},
    }
    registration.register_benchmark_entry(world.evaluation, world.datasets, entry)
    return world


def config() -> dict[str, Any]:
    params = {"type": "llm_as_judge", "judge_model": "judge", "prompt_template": "{generated_answer}"}
    return candidate() | {"scoring_params": {JUDGE: params}}


def corrected(world: World, job_id: str) -> dict[str, Any]:
    result = json.loads("".join(answer.stream(world.jobs.get(job_id), world.evaluation.results)))
    assert len(result["generations"]) == NUM_ROWS
    assert len(result["scores"][JUDGE]["score_rows"]) == NUM_ROWS
    assert "corrected" not in result["scores"]["basic::equality"]["aggregated_results"]
    return dict(result["scores"][JUDGE]["aggregated_results"]["corrected"])


def test_a_score_is_corrected_for_what_the_judge_gets_wrong(make_world: Callable[..., World]) -> None:
    world = make(make_world, labelled())
    job_id = world.submit(config())
    job = world.run(job_id)
    assert job.progress == {"done": NUM_ROWS + 40, "total": NUM_ROWS + 40, "unit": "rows"}
    found = corrected(world, job_id)
    # 10 of 30 answers are good; the judge finds those, and 19 and 29 of the bad ones (9 is good). Of the 20 bad ones that
    # people labelled it likes 9 and 19.
    assert (found["raw"], found["num_scored"], found["num_calibrated"]) == (12 / 30, 30, 40)
    assert (found["sensitivity"], found["specificity"]) == (1.0, 0.9)
    assert found["corrected"] == pytest.approx(10 / 30, abs=1e-12)
    calibration = Calibration(20, 20, 20, 18)
    assert found["ci95"] == pytest.approx(judge_correction.interval(12, 30, calibration))
    # Nothing is asked of the candidate for answers that are there.
    assert sum(body["model"] == "pupil" for _, body, _ in world.server.requests) == NUM_ROWS


def test_a_job_that_goes_on_judges_no_labelled_answer_twice(make_world: Callable[..., World]) -> None:
    world = make(make_world, labelled())
    job_id = world.submit(config())

    stop: list[Callable[[], None]] = []

    def judge_that_interrupts(body: dict[str, Any]) -> Any:
        if sum(body["model"] == "judge" for _, body, _ in world.server.requests) >= NUM_ROWS + 10:
            stop[-1]()
        return pupil_and_judge(body)

    world.server.answer = judge_that_interrupts
    assert world.run(job_id, meanwhile=lambda progress: stop.append(progress.ask_to_stop)).status == "scheduled"
    asked = sum(body["model"] == "judge" for _, body, _ in world.server.requests)
    assert NUM_ROWS < asked < NUM_ROWS + 40
    assert world.run(job_id).status == "completed"
    assert sum(body["model"] == "judge" for _, body, _ in world.server.requests) == NUM_ROWS + 40
    assert corrected(world, job_id)["num_calibrated"] == 40


def test_a_threshold_makes_yes_of_a_grade(make_world: Callable[..., World]) -> None:
    found = []
    for threshold in (0.5, 2):
        world = make(make_world, labelled(), threshold=threshold)
        job_id = world.submit(config())
        world.run(job_id)
        found.append(corrected(world, job_id))
        world.evaluation.benchmarks.remove("bench")
        world.datasets.remove("labelled")
        world.datasets.remove("exam")
    assert [result["raw"] for result in found] == [12 / 30, 0.0]
    # A judge that never says 2 finds nothing: no better than chance, and its score says nothing.
    assert (found[1]["sensitivity"], found[1]["corrected"], found[1]["ci95"]) == (0.0, None, None)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"generated_answer": "x"}, *labelled()], "Row 0 .* `label` must be true"),
        ([{"label": True}, *labelled()], "Row 0 .* no `generated_answer`"),
        (labelled(num_bad=0), "good and bad answers"),
    ],
)
def test_rows_that_tell_nothing_of_a_judge_are_refused(
    make_world: Callable[..., World], rows: list[dict[str, Any]], words: str
) -> None:
    world = make(make_world, rows)
    with pytest.raises(InvalidRequestError, match=words):
        world.submit(config())
    assert world.jobs.list() == []


def test_a_set_that_is_not_there_or_the_exam_itself(make_world: Callable[..., World]) -> None:
    world = make(make_world, labelled(), dataset_id="nowhere")
    with pytest.raises(InvalidRequestError, match="nowhere"):
        world.submit(config())
    world.evaluation.benchmarks.remove("bench")
    world.datasets.remove("labelled")
    world.datasets.remove("exam")
    world = make(make_world, labelled(), dataset_id="exam")
    with pytest.raises(InvalidRequestError, match="its own dataset"):
        world.submit(config())


@pytest.mark.parametrize("named", ["labelled", {}, {"dataset_id": 3}, {"dataset_id": "d", "treshold": 1}])
def test_metadata_that_names_it_wrongly_are_refused_at_registration(
    make_world: Callable[..., World], named: Any
) -> None:
    world = make_world(pupil_and_judge)
    world.add_dataset([{"question": "1", "answer": "1"}])
    entry = {"benchmark_id": "b", "dataset_id": "exam", "scoring_functions": [JUDGE]}
    with pytest.raises(InvalidRequestError) as caught:
        registration.register_benchmark_entry(
            world.evaluation, world.datasets, entry | {"metadata": {"judge_calibration": named}}
        )
    assert caught.value.errors[0].pointer == "/metadata/judge_calibration"

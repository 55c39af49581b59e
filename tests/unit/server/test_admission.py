"""How much is taken on at once."""

from __future__ import annotations

import pytest

from paddock.errors import TooManyRequestsError
from paddock.server.admission import Admission, costs_something
from paddock.settings import Settings


def test_places_are_taken_and_given_back() -> None:
    admission = Admission(Settings(max_requests_in_flight=2))
    admission.enter()
    admission.enter()
    for refused in (admission.check, admission.enter):
        with pytest.raises(TooManyRequestsError, match="max_requests_in_flight") as caught:
            refused()
        assert caught.value.retry_after_seconds == 1
    assert admission.num_in_flight == 2
    admission.leave()
    admission.enter()
    assert admission.num_threads > 2


def test_large_bodies_share_their_memory_and_small_ones_need_none() -> None:
    megabyte = 1024 * 1024
    admission = Admission(Settings(max_body_bytes=megabyte))
    held = 0
    with pytest.raises(TooManyRequestsError, match="large bodies"):
        for _ in range(10):
            admission.hold_body(0, megabyte)
            held += 1
    assert held == 4
    for _ in range(1000):
        admission.hold_body(0, 60_000)
    admission.hold_body(megabyte, 0)
    admission.hold_body(0, 500_000)
    admission.hold_body(500_000, megabyte)
    # What was refused was not counted.
    for _ in range(held):
        admission.hold_body(megabyte, 0)
    admission.hold_body(0, 4 * megabyte)


@pytest.mark.parametrize(
    ("method", "path", "costs"),
    [
        ("POST", "/v1alpha/inference/rerank", True),
        ("POST", "/v1/chat/completions", True),
        ("POST", "/v1beta/datasetio/append-rows/d", True),
        ("POST", "/v1alpha/eval/benchmarks/b/jobs", True),
        ("GET", "/v1beta/datasetio/iterrows/a/b", True),
        ("POST", "/v1alpha/post-training/job/cancel", False),
        ("POST", "/v1alpha/post-training/jobs/j/cancel", False),
        ("DELETE", "/v1alpha/eval/benchmarks/b/jobs/j", False),
        ("GET", "/v1/health", False),
        ("GET", "/v1alpha/post-training/job/status", False),
        ("GET", "/metrics", False),
    ],
)
def test_what_counts(method: str, path: str, *, costs: bool) -> None:
    assert costs_something(method, path) == costs

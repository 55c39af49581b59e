"""A few kills of training jobs at fixed instants, of a fixed seed; `make kill-training` makes fifty."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from crash.training import Instant, TrainingWorld


@pytest.mark.timeout(600)
def test_a_killed_training_ends_with_the_same_bytes(tmp_path: Path) -> None:
    chosen = random.Random(0)
    with TrainingWorld(tmp_path) as world:
        # All files of the final model are there, its row is not.
        world.kill("rounded", "qat", Instant("publishing", "enter", is_last=True), chosen)
        # A resume point's row is not committed; the server goes.
        world.kill("preferred", "dpo packed", Instant("row of a resume point", "leave"), chosen, victim="server")
    assert world.kills == {"publishing": 1, "row of a resume point": 1}

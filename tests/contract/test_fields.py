"""Every field of every request does something: one test for each line of `request-fields.txt`.

The cases stand in `field_cases/`. Fields that are not real yet are expected to fail, strictly (`registry.OPEN`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.field_cases.lab import Lab
from contract.field_cases.registry import CASES, LINES, OPEN, REFUSED, load_cases

load_cases()

_OF_TRAINING = ("supervised_fine_tune ", "preference_optimize ")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("lab"), tiny_llama)
    yield lab
    lab.close()


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, id=line, marks=[pytest.mark.xfail(strict=True, reason=OPEN[line])] if line in OPEN else [])
        for line in LINES
        if line in CASES
    ],
)
def test_field(line: str, lab: Lab) -> None:
    lab.clear()
    CASES[line](lab)


def test_few_fields_rest_on_refusal_alone() -> None:
    assert [line for line in (*OPEN, *REFUSED) if line not in LINES] == []
    assert len(REFUSED) <= 15


def test_every_line_has_its_case() -> None:
    assert [line for line in LINES if line not in CASES and not line.startswith(_OF_TRAINING)] == []

"""Every field of every request does something: one test for each line of `request-fields.txt`.

The cases stand in `field_cases/`. Fields that are not real yet are expected to fail, strictly (`registry.OPEN`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.field_cases import reranking, training  # noqa: F401 — importing a module of cases registers them
from contract.field_cases.lab import Lab
from contract.field_cases.registry import CASES, LINES, OPEN, REFUSED


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("lab"), tiny_llama)
    yield lab
    lab.close()


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, marks=pytest.mark.xfail(strict=True, reason=OPEN[line])) if line in OPEN else line
        for line in LINES
        if line in CASES
    ],
)
def test_field(line: str, lab: Lab) -> None:
    CASES[line](lab)


def test_few_fields_rest_on_refusal_alone() -> None:
    assert [line for line in (*OPEN, *REFUSED) if line not in LINES] == []
    assert len(REFUSED) <= 15

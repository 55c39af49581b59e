"""Every field of every request does something: one test for each line of `request-fields.txt`.

The cases stand in `field_cases/`. Fields that are not real yet are expected to fail, strictly (`registry.OPEN`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.field_cases.lab import Lab
from contract.field_cases.registry import CASES, LINES, OPEN, REFUSED, load_cases

load_cases()


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


def test_the_exceptions_are_documented() -> None:
    """`- `line`: reason` in the page, word for word."""
    page = (Path(__file__).parents[2] / "docs" / "fields.md").read_text()
    for title, exceptions in (("Fields that rest on refusal alone", REFUSED), ("Fields that are not real yet", OPEN)):
        (section,) = re.findall(rf"^## {title}\n(.+?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
        assert dict(re.findall(r"^- `(.+?)`: (.+)$", section, re.MULTILINE)) == exceptions
        assert ("None.\n" in section) == (not exceptions)


def test_few_fields_rest_on_refusal_alone() -> None:
    assert [line for line in (*OPEN, *REFUSED) if line not in LINES] == []
    assert len(REFUSED) <= 15


def test_every_line_has_its_case() -> None:
    assert [line for line in LINES if line not in CASES] == []

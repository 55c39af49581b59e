from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from paddock.datasets import purposes, rows
from paddock.datasets.tally import Tally
from row_texts import VALUES

COLUMNS = [
    *dict.fromkeys(column for needs in purposes.NEEDS.values() for column in needs),
    "dialog",
    "input_query",
    "x",
]
MEMBERS = st.builds(
    lambda column, value: f'"{column}":{value}', st.sampled_from(COLUMNS), st.one_of(st.just("null"), VALUES)
)
# Columns may come twice.
TEXTS = st.lists(st.lists(MEMBERS, max_size=5).map(lambda members: "{" + ",".join(members) + "}"), max_size=6)


@given(st.sampled_from(list(purposes.NEEDS)), TEXTS, TEXTS)
def test_the_quick_look_counts_what_the_purpose_says(purpose: str, first: list[str], second: list[str]) -> None:
    tally = Tally(purpose, start=7)
    tally.add(first)
    tally.add(second)
    texts = first + second
    lacking = [index for index, text in enumerate(texts, 7) if purposes.missing(purpose, rows.parse(text)) is not None]
    assert tally.num_rows == len(texts)
    assert tally.num_bytes == sum(len(text.encode()) for text in texts)
    assert tally.num_incomplete_rows == len(lacking)
    assert tally.first_incomplete_row == (lacking[0] if lacking else None)


def test_rows_that_lack_something_are_found_behind_many() -> None:
    tally = Tally("eval/question-answer")
    tally.add(
        ['{"question":"q","answer":1}'] * 1203 + ['{"question":"q"}', '{"input_query":"q","expected_answer":"a"}']
    )
    assert (tally.num_rows, tally.num_incomplete_rows, tally.first_incomplete_row) == (1205, 1, 1203)

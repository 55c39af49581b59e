"""The quickstart's rows: how many, in which shape, and that no exam date was ever trained on."""

import re
from datetime import date

import pytest

from paddock.quickstart import dates, plan

ISO = re.compile(r"\d{4}-\d{2}-\d{2}")
EXAMS = [dates.new_form_exam, dates.known_forms_exam]


def answers(rows: list[dates.Row]) -> list[str]:
    """The right answer of each row, whatever the row's shape."""
    return [row.get("answer") or row.get("chosen") or row["messages"][-1]["content"] for row in rows]


def test_calendar_splits_in_two() -> None:
    training, exam = set(dates.training_dates()), set(dates.exam_dates())
    assert training.isdisjoint(exam)
    assert len(training) + len(exam) == (dates.LAST_DAY - dates.FIRST_DAY).days + 1
    assert len(exam) > 9_000


def test_no_exam_date_is_trained_on_in_any_form() -> None:
    base = [row for row in dates.base_training_rows(50_000, seed=0) if ISO.fullmatch(row["messages"][-1]["content"])]
    trained = {*answers(base), *answers(dates.fine_tuning_rows()), *answers(dates.preference_rows())}
    examined = {*answers(dates.new_form_exam()), *answers(dates.known_forms_exam())}
    assert trained.isdisjoint(examined)
    assert not any(dates.is_exam_date(date.fromisoformat(answer)) for answer in trained)
    assert all(dates.is_exam_date(date.fromisoformat(answer)) for answer in examined)


def test_counts() -> None:
    assert len(dates.fine_tuning_rows()) == 1920
    assert len(dates.new_form_exam()) == len(dates.known_forms_exam()) == 240
    assert len(dates.preference_rows()) == 480
    assert sum(1 for _ in dates.base_training_rows(1000, seed=0)) == 1000


@pytest.mark.parametrize("exam", EXAMS)
def test_exam_rows_are_distinct_questions(exam) -> None:
    rows = exam()
    assert all(row.keys() == {"question", "answer"} for row in rows)
    assert len({row["answer"] for row in rows}) == len(rows)
    assert all(date.fromisoformat(row["answer"]) for row in rows)


def test_the_same_seed_gives_the_same_rows() -> None:
    for make in (dates.fine_tuning_rows, dates.preference_rows, *EXAMS):
        assert make() == make()
        assert make(seed=99) != make()
    assert list(dates.base_training_rows(100, seed=5)) == list(dates.base_training_rows(100, seed=5))


def test_new_form() -> None:
    assert dates.new_form(date(2024, 3, 5)) == "5.III.'24"
    assert dates.new_form(date(2009, 12, 31)) == "31.XII.'09"


def test_known_forms_differ_and_none_is_the_new_one() -> None:
    day = date(2024, 1, 23)
    written = {form(day) for form in dates.KNOWN_FORMS}
    assert len(written) == len(dates.KNOWN_FORMS)
    assert {"January 23, 2024", "the 23rd of January 2024", "23.01.2024", "Tue, 23 Jan 2024"} <= written
    assert not any(re.search(r"\b[IVX]+\b|'\d", text) for text in written)


def test_known_forms_are_unambiguous() -> None:
    """No text may stand for two dates, or no model could pass the exam."""
    meaning: dict[str, date] = {}
    for month in range(1, 13):
        for day in range(1, 29):
            for form in (*dates.KNOWN_FORMS, dates.new_form):
                d = date(2024, month, day)
                assert meaning.setdefault(form(d), d) == d


def test_ordinals() -> None:
    written = [dates.KNOWN_FORMS[10](date(2024, 1, day)).split()[0] for day in (1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 31)]
    assert written == ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "23rd", "31st"]


def test_fine_tuning_rows_hold_both_forms() -> None:
    questions = [row["messages"][0]["content"] for row in dates.fine_tuning_rows()]
    num_new = sum(bool(re.search(r"\d\.[IVX]+\.'\d", question)) for question in questions)
    assert num_new == dates.NUM_NEW_FORM_ROWS


def test_rejected_is_never_the_right_answer() -> None:
    rows = dates.preference_rows()
    assert all(row.keys() == {"prompt", "chosen", "rejected"} for row in rows)
    assert all(row["rejected"] != row["chosen"] for row in rows)


def test_plan_fits_the_rows() -> None:
    """Whole batches: the steps that the plan announces are the steps that the rows give."""
    sft, dpo = plan.SUPERVISED_FINE_TUNE, plan.PREFERENCE_OPTIMIZE
    assert len(dates.fine_tuning_rows()) == sft.batch_size * sft.max_steps_per_epoch
    assert len(dates.preference_rows()) == dpo.batch_size * dpo.max_steps_per_epoch

"""The quickstart's task: write dates as ISO 8601, in the known forms of the base model and in one that is new to it.

The known forms are everyday ones (`March 5, 2024`, `5th Mar 2024`, `03/05/2024`). The new form, `5.III.'24`, is that of
old postmarks: the month a Roman numeral, the year cut to two digits, of this century. Nothing the base was trained on
has either, so it fails there, and a fine-tuning of a minute mends it. Slashes are read the American way (month first),
dots the European way.

Every function here is a pure function of its seed. Training and exams never share a calendar date, in any form:
`is_exam_date` decides it from the date alone. How to train is in `plan`, the base model's own training in
`make_base_model`; nothing here knows of models.
"""

import hashlib
import random
import string
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

Row = dict[str, Any]
Form = Callable[[date], str]

FIRST_DAY = date(1900, 1, 1)
LAST_DAY = date(2099, 12, 31)
NEW_FORM_FIRST_YEAR = 2000  # its two digits name a year from here on
EXAM_SHARE = 8  # one date in so many is for exams only

NUM_NEW_FORM_ROWS = 1536
NUM_KNOWN_FORM_ROWS = 384  # among the fine-tuning rows, so that the old skill stays
NUM_EXAM_ROWS = 240
NUM_PREFERENCE_ROWS = 480

SYSTEM_PROMPTS = ("You write dates as ISO 8601.", "Answer with the date alone.", "You are a helpful assistant.")

WORDINGS = (
    "Write as ISO 8601: {}",
    "ISO 8601: {}",
    "ISO date for {}",
    "Normalise: {}",
    "Convert to ISO: {}",
    "{} as ISO 8601?",
    "What is {} in ISO form?",
    "{}",
)

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
ROMAN_MONTHS = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _ordinal(day: int) -> str:
    suffix = "th" if 11 <= day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{suffix}"


# strftime would follow the machine's locale, hence names of our own.
def _month(d: date) -> str:
    return MONTHS[d.month - 1]


def _mon(d: date) -> str:
    return MONTHS[d.month - 1][:3]


def _weekday(d: date) -> str:
    return WEEKDAYS[d.weekday()]


KNOWN_FORMS: tuple[Form, ...] = (
    lambda d: f"{_month(d)} {d.day}, {d.year}",
    lambda d: f"{_month(d)} {d.day} {d.year}",
    lambda d: f"{_month(d)} {_ordinal(d.day)}, {d.year}",
    lambda d: f"{_month(d)} the {_ordinal(d.day)}, {d.year}",
    lambda d: f"{_mon(d)} {d.day}, {d.year}",
    lambda d: f"{_mon(d)}. {d.day}, {d.year}",
    lambda d: f"{_mon(d)} {_ordinal(d.day)} {d.year}",
    lambda d: f"{d.day} {_month(d)} {d.year}",
    lambda d: f"{d.day} {_month(d).lower()} {d.year}",
    lambda d: f"{d.day} {_month(d).upper()} {d.year}",
    lambda d: f"{_ordinal(d.day)} {_month(d)} {d.year}",
    lambda d: f"the {_ordinal(d.day)} of {_month(d)} {d.year}",
    lambda d: f"the {_ordinal(d.day)} of {_month(d)}, {d.year}",
    lambda d: f"{d.day} {_mon(d)} {d.year}",
    lambda d: f"{_ordinal(d.day)} {_mon(d)} {d.year}",
    lambda d: f"{d.day:02}-{_mon(d)}-{d.year}",
    lambda d: f"{d.day}-{_mon(d).upper()}-{d.year}",
    lambda d: f"{d.day}.{_mon(d)}.{d.year}",
    lambda d: f"{_weekday(d)}, {_month(d)} {d.day}, {d.year}",
    lambda d: f"{_weekday(d)} {d.day} {_month(d)} {d.year}",
    lambda d: f"{_weekday(d)[:3]}, {d.day:02} {_mon(d)} {d.year}",
    lambda d: f"{_weekday(d)[:3]} {_mon(d)} {d.day} {d.year}",
    lambda d: f"{d.year} {_month(d)} {d.day}",
    lambda d: f"{d.year}-{_mon(d)}-{d.day:02}",
    lambda d: f"{d.year}, {_ordinal(d.day)} {_month(d)}",
    lambda d: f"{d.year}/{d.month:02}/{d.day:02}",
    lambda d: f"{d.year}/{d.month}/{d.day}",
    lambda d: f"{d.year}.{d.month:02}.{d.day:02}",
    lambda d: f"{d.year}{d.month:02}{d.day:02}",
    lambda d: f"{d.month:02}/{d.day:02}/{d.year}",
    lambda d: f"{d.month}/{d.day}/{d.year}",
    lambda d: f"{d.day:02}.{d.month:02}.{d.year}",
    lambda d: f"{d.day}.{d.month}.{d.year}",
    lambda d: f"{d.day}. {d.month}. {d.year}",
    lambda d: d.isoformat(),
)


def new_form(d: date) -> str:
    """The form the base has never met: `5.III.'24`."""
    assert d.year >= NEW_FORM_FIRST_YEAR
    return f"{d.day}.{ROMAN_MONTHS[d.month - 1]}.'{d.year % 100:02}"


def is_exam_date(d: date) -> bool:
    """Whether this date is for exams only; a hash decides, so no list has to be kept in step."""
    return hashlib.sha256(d.isoformat().encode()).digest()[0] % EXAM_SHARE == 0


def training_dates(first_year: int = FIRST_DAY.year) -> list[date]:
    return [d for d in _calendar(first_year) if not is_exam_date(d)]


def exam_dates(first_year: int = FIRST_DAY.year) -> list[date]:
    return [d for d in _calendar(first_year) if is_exam_date(d)]


def _calendar(first_year: int) -> Iterator[date]:
    return (date.fromordinal(n) for n in range(date(first_year, 1, 1).toordinal(), LAST_DAY.toordinal() + 1))


def base_training_rows(num_rows: int, seed: int) -> Iterator[Row]:
    """Messages rows the base model is made from: dates in known forms, and one in sixteen a text to be repeated.

    Repeating gives every printable character a meaning to the model, so that a later form may use any of them.
    """
    rng = random.Random(seed)
    dates = training_dates()
    for _ in range(num_rows):
        if rng.random() < 1 / 16:
            text = "".join(rng.choices(string.ascii_letters + string.digits + " .,-/'", k=rng.randint(1, 8)))
            question, answer = f"Repeat: {text}", text
        else:
            d = rng.choice(dates)
            question, answer = _question(rng.choice(KNOWN_FORMS)(d), rng), d.isoformat()
        row = _messages_row(question, answer)
        if rng.random() < 1 / 8:
            row["messages"].insert(0, {"role": "system", "content": rng.choice(SYSTEM_PROMPTS)})
        yield row


def fine_tuning_rows(seed: int = 1) -> list[Row]:
    """Messages rows to learn the new form from, some of the known forms among them, in random order."""
    rng = random.Random(seed)
    written = [(new_form(d), d) for d in rng.sample(training_dates(NEW_FORM_FIRST_YEAR), NUM_NEW_FORM_ROWS)]
    written += [(rng.choice(KNOWN_FORMS)(d), d) for d in rng.sample(training_dates(), NUM_KNOWN_FORM_ROWS)]
    rng.shuffle(written)
    return [_messages_row(_question(text, rng), d.isoformat()) for text, d in written]


def new_form_exam(seed: int = 2) -> list[Row]:
    """Question and answer rows in the new form, on dates that no training row bears."""
    rng = random.Random(seed)
    return [_exam_row(new_form(d), d, rng) for d in rng.sample(exam_dates(NEW_FORM_FIRST_YEAR), NUM_EXAM_ROWS)]


def known_forms_exam(seed: int = 3) -> list[Row]:
    """Question and answer rows that go round the known forms, on dates that no training row bears."""
    rng = random.Random(seed)
    dates = rng.sample(exam_dates(), NUM_EXAM_ROWS)
    return [_exam_row(KNOWN_FORMS[i % len(KNOWN_FORMS)](d), d, rng) for i, d in enumerate(dates)]


def preference_rows(seed: int = 4) -> list[Row]:
    """Prompt, chosen and rejected in the new form; rejected has day and month swapped, or the wrong layout."""
    rng = random.Random(seed)
    rows = []
    for i, d in enumerate(rng.sample(training_dates(NEW_FORM_FIRST_YEAR), NUM_PREFERENCE_ROWS)):
        swapped = f"{d.year}-{d.day:02}-{d.month:02}"
        wrong_layout = f"{d.day:02}.{d.month:02}.{d.year}"
        rejected = swapped if i % 2 == 0 and d.day != d.month else wrong_layout
        rows.append({"prompt": _question(new_form(d), rng), "chosen": d.isoformat(), "rejected": rejected})
    return rows


def _question(written: str, rng: random.Random) -> str:
    return rng.choice(WORDINGS).format(written)


def _messages_row(question: str, answer: str) -> Row:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def _exam_row(written: str, d: date, rng: random.Random) -> Row:
    return {"question": _question(written, rng), "answer": d.isoformat()}

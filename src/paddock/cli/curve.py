"""A series as a curve in a terminal: dots of Braille, with the range of both axes."""

from __future__ import annotations

from collections.abc import Sequence

_FIRST_BRAILLE = 0x2800
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""The bit of each dot of a sign: two columns of four, from above."""

_DOTS_WIDE, _DOTS_HIGH = 2, 4


def draw(points: Sequence[tuple[int, float]], *, width: int = 64, height: int = 10) -> list[str]:
    """Lines of text that show `points` (step, value), in order of their steps, `width` signs wide without the axis.

    Where several points fall into a column of dots it shows their mean."""
    columns = _columns(points, width * _DOTS_WIDE)
    values = [value for value in columns if value is not None]
    low, high = min(values), max(values)
    rows = height * _DOTS_HIGH
    scale = (rows - 1) / (high - low) if high > low else 0.0
    signs = [[0] * width for _ in range(height)]
    before: int | None = None
    for x, value in enumerate(columns):
        if value is None:
            continue
        y = round((high - value) * scale) if scale else rows // 2
        # A steep step is drawn through, so that the curve holds together.
        span = range(y, y + 1) if before is None else range(min(y, before + 1), max(y, before - 1) + 1)
        for dot in span:
            if 0 <= dot < rows:
                signs[dot // _DOTS_HIGH][x // _DOTS_WIDE] |= _DOTS[x % _DOTS_WIDE][dot % _DOTS_HIGH]
        before = y
    labels = [""] * height
    labels[0], labels[-1] = f"{high:.4g}", f"{low:.4g}"
    if high == low:
        labels = [f"{high:.4g}" if row == height // 2 else "" for row in range(height)]
    margin = max(len(label) for label in labels)
    lines = [
        f"{label:>{margin}} ┤{''.join(chr(_FIRST_BRAILLE + sign) if sign else ' ' for sign in row)}".rstrip()
        for label, row in zip(labels, signs, strict=True)
    ]
    first, last = str(points[0][0]), str(points[-1][0])
    axis = f"{first}{last:>{max(width - len(first), 0)}}" if len(points) > 1 else first
    return [*lines, f"{'':>{margin}} └{'─' * width}", f"{'':>{margin}}  {axis}"]


def _columns(points: Sequence[tuple[int, float]], num_columns: int) -> list[float | None]:
    """The mean of the points in each column; None where there are none."""
    first, last = points[0][0], points[-1][0]
    found: list[list[float]] = [[] for _ in range(num_columns)]
    for step, value in points:
        place = (step - first) / (last - first) * (num_columns - 1) if last > first else 0
        found[round(place)].append(value)
    return [sum(values) / len(values) if values else None for values in found]

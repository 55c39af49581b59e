from __future__ import annotations

from paddock.cli.curve import draw


def test_a_falling_line_goes_from_corner_to_corner() -> None:
    lines = draw([(step, 10.0 - step) for step in range(11)], width=5, height=3)
    assert lines == [
        "10 ┤⠑⢄",
        "   ┤  ⢣",
        " 0 ┤   ⠑⢄",
        "   └─────",
        "    0  10",
    ]


def test_a_constant_lies_in_the_middle() -> None:
    assert draw([(1, 2.5), (2, 2.5)], width=3, height=3)[1].startswith("2.5 ┤")
    assert draw([(7, 1.0)], width=3, height=1) == ["1 ┤⠄", "  └───", "   7"]


def test_many_points_are_averaged_and_the_lines_no_wider() -> None:
    lines = draw([(step, float(step % 2)) for step in range(100_000)], width=20, height=4)
    assert max(len(line.strip()) for line in lines) <= 20 + 10
    assert len(lines) == 6

"""Templates as lm-evaluation-harness renders them, and those that would never end, or eat all memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from paddock.suites import templates
from paddock.suites.suite import SuiteError
from paddock.suites.templates import Renderer


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    with Renderer() as renderer:
        yield renderer


def test_texts_of_rows_in_their_order(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "CHUNK_ROWS", 3)
    rows = [{"q": f" {i} ", "c": ["a", "b"]} for i in range(8)]
    template = "{{q.strip()}}: {% for x in c %}{{loop.index}}{{x}} {% endfor %}{{c}}\n"
    assert renderer.render(template, rows, "doc_to_text") == [f"{i}: 1a 2b ['a', 'b']\n" for i in range(8)]
    assert renderer.render("{{q | regex_replace('[0-9]', 'x')}}", rows[:1], "doc_to_text") == [" x "]
    assert renderer.render("{{ 'ab' * 3 }}{{ 2 ** 8 }}{{ 2 * 3 }}{{ c * 2 }}", rows[:1], "t") == [
        "ababab2566['a', 'b', 'a', 'b']"
    ]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ gone }}", "'gone' is undefined"),
        ("{{ q", "doc_to_text"),
        ("{{ q.__class__.__mro__ }}", "unsafe"),
        ("{{ cycler.__init__.__globals__.os.system('touch owned') }}", "unsafe"),
        ("{% include '/etc/passwd' %}", "doc_to_text"),
        ("{{ 'x' * 10000000 }}", "repeats"),
        ("{{ 9 ** (9 ** 9) }}", "power"),
        ("{{ 'x' | center(99999999999) }}", "doc_to_text"),
        ("{% for i in range(99999) %}{{ 'x' * 100 }}{% endfor %}", "makes more than"),
        ("{{ range(10000000) | list }}", "Range too big"),
    ],
)
def test_what_is_refused(renderer: Renderer, template: str, message: str) -> None:
    with pytest.raises(SuiteError, match=message) as caught:
        renderer.render(template, [{"q": "x"}], "doc_to_text")
    assert "doc_to_text" in caught.value.detail


def test_a_template_that_loops_is_stopped(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "TIMEOUT_SECONDS", 1.0)
    endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(SuiteError, match="took longer than 1 s"):
        renderer.render(endless, [{"q": "x"}], "doc_to_text")
    monkeypatch.undo()
    assert renderer.render("{{q}}", [{"q": "still here"}], "doc_to_text") == ["still here"]

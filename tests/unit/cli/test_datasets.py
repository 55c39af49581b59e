"""`paddock datasets` against the real app."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from paddock.wiring import Resources

Invoke = Callable[..., Result]
WriteRows = Callable[..., Path]
QA = "eval/question-answer"


def test_register_show_list_rows_append_delete(invoke: Invoke, write_rows: WriteRows) -> None:
    file = write_rows({"question": "1 + 1", "answer": "2"}, {"question": "2 + 2", "answer": "4"})
    assert (
        invoke("datasets", "register", "my/exam", "--purpose", QA, "--file", file).output == "my/exam holds 2 rows.\n"
    )
    assert "my/exam" in invoke("datasets", "list").output
    shown = invoke("datasets", "show", "my/exam").output
    assert QA in shown
    assert "1 + 1" in shown
    invoke("datasets", "append", "my/exam", write_rows({"question": "3", "answer": "3"}, name="more.jsonl"))
    rows = [json.loads(line) for line in invoke("datasets", "rows", "my/exam", "--start", "1").output.splitlines()]
    assert [row["question"] for row in rows] == ["2 + 2", "3"]
    assert len(invoke("datasets", "rows", "my/exam", "--limit", "1").output.splitlines()) == 1
    invoke("datasets", "delete", "my/exam")
    assert "my/exam" in invoke("datasets", "show", "my/exam", code=1).output


def test_json_is_the_servers_answer(invoke: Invoke, write_rows: WriteRows) -> None:
    file = write_rows({"question": "1 + 1", "answer": "2"})
    registered = json.loads(invoke("datasets", "register", "d", "--purpose", QA, "--file", file, "--json").output)
    assert registered["metadata"]["num_rows"] == 1
    assert json.loads(invoke("datasets", "list", "--json").output)["data"][0]["identifier"] == "d"


def test_digits_pass_unchanged(invoke: Invoke, tmp_path: Path) -> None:
    row = '{"question":"q","answer":"a","x":1.10,"y":1e400,"z":-0.0,"n":' + "7" * 5000 + "}"
    file = tmp_path / "rows.jsonl"
    file.write_text(row + "\n")
    shown = json.loads(invoke("datasets", "register", "d", "--purpose", QA, "--file", file, "--json").output)
    assert shown["source"]["rows"][0]["y"] == "1e400"  # no double: as text, for JSON has no Infinity
    assert invoke("datasets", "rows", "d").output == row + "\n"
    assert row in invoke("datasets", "show", "d", "--json").output


def test_other_files_and_metadata(invoke: Invoke, tmp_path: Path) -> None:
    csv, array = tmp_path / "exam.csv", tmp_path / "more.json"
    csv.write_text("question,answer\n1 + 1,2\n")
    array.write_text('[{"question":"2 + 2","answer":4.0}]')
    words = ("datasets", "register", "d", "--purpose", QA, "--file", csv, "--metadata", '{"author": "me"}', "--json")
    metadata = json.loads(invoke(*words).output)["metadata"]
    assert (metadata["author"], metadata["file"]) == ("me", "exam.csv")
    invoke("datasets", "append", "d", array)
    assert invoke("datasets", "rows", "d").output.splitlines() == [
        '{"question":"1 + 1","answer":"2"}', '{"question":"2 + 2","answer":4.0}',
    ]  # fmt: skip
    uri = ("--uri", "data:text/csv,question%2Canswer%0A1%2C1%0A", "--metadata", '{"author": "you"}')
    registered = json.loads(invoke("datasets", "register", "e", "--purpose", QA, *uri, "--json").output)
    assert (registered["metadata"]["author"], registered["metadata"]["num_rows"]) == ("you", 1)


def many(num_rows: int) -> list[dict[str, str]]:
    return [{"question": f"{i}", "answer": f"{i}"} for i in range(num_rows)]


def test_a_large_file_arrives_whole_and_twice_is_once(
    invoke: Invoke, write_rows: WriteRows, resources: Resources
) -> None:
    file = write_rows(*many(2345))
    for _ in range(2):
        output = invoke("datasets", "register", "d", "--purpose", QA, "--file", file).output
        assert output == "d holds 2,345 rows.\n"
    stored = [json.loads(line)["question"] for line in invoke("datasets", "rows", "d").output.splitlines()]
    assert stored == [str(i) for i in range(2345)]


def test_a_broken_off_registration_goes_on(
    invoke: Invoke, write_rows: WriteRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_rows(*many(2345))
    with monkeypatch.context() as patched:
        patched.setattr("paddock.client.Client.append_rows", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        invoke("datasets", "register", "d", "--purpose", QA, "--file", file, code=130)
    assert len(invoke("datasets", "rows", "d").output.splitlines()) == 1000
    assert invoke("datasets", "register", "d", "--purpose", QA, "--file", file).output == "d holds 2,345 rows.\n"
    assert len(set(invoke("datasets", "rows", "d").output.splitlines())) == 2345


def test_another_file_under_the_same_id_is_a_conflict(invoke: Invoke, write_rows: WriteRows) -> None:
    invoke("datasets", "register", "d", "--purpose", QA, "--file", write_rows(*many(1200)))
    other = write_rows(*many(1201), name="other.jsonl")
    assert "d" in invoke("datasets", "register", "d", "--purpose", QA, "--file", other, code=1).output
    assert len(invoke("datasets", "rows", "d").output.splitlines()) == 1200


def test_a_wrong_line_is_found_before_anything_is_sent(invoke: Invoke, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "1", "answer": "1"}\n' * 1500 + "oops\n")
    output = invoke("datasets", "register", "d", "--purpose", QA, "--file", file, code=1).output
    assert "Line 1501 of" in output
    assert json.loads(invoke("datasets", "list", "--json").output) == {"data": []}


def test_rows_that_lack_a_column_are_told(invoke: Invoke, write_rows: WriteRows) -> None:
    file = write_rows({"question": "1", "answer": "1"}, {"question": "2"})
    output = invoke("datasets", "register", "d", "--purpose", QA, "--file", file).output
    assert f"1 of them lack what {QA} needs (the first is row 1)" in output


def test_rows_come_from_a_file_or_a_uri(invoke: Invoke, write_rows: WriteRows) -> None:
    assert "--file or --uri" in invoke("datasets", "register", "d", "--purpose", QA, code=2).output
    uri = 'data:application/json,[{"question":"1","answer":"1"}]'
    assert invoke("datasets", "register", "d", "--purpose", QA, "--uri", uri).output == "d holds 1 rows.\n"


def test_an_unknown_dataset_is_one_sentence(invoke: Invoke) -> None:
    for words in (["show", "nope"], ["rows", "nope"], ["delete", "nope"]):
        output = invoke("datasets", *words, code=1).output
        assert output.startswith("Error: ")
        assert "nope" in output


@pytest.mark.parametrize("name", ["exam.jsonl", "exam.jsonl.gz", "exam.jsonl.zst", "exam.parquet"])
def test_a_dataset_moves_house(invoke: Invoke, write_rows: WriteRows, tmp_path: Path, name: str) -> None:
    file = write_rows(*({"question": f"{n} + 1", "answer": str(n + 1), "n": n} for n in range(1500)))
    moved = tmp_path / name
    assert invoke("datasets", "import", "d", file, "--purpose", QA).output == "d holds 1,500 rows.\n"
    assert invoke("datasets", "import", "d", file, "--purpose", QA).output == "d holds 1,500 rows.\n"
    assert invoke("datasets", "export", "d", moved).output == f"{moved} holds 1,500 rows of d.\n"
    assert "write over it with --force" in invoke("datasets", "export", "d", moved, code=1).output
    invoke("datasets", "export", "d", moved, "--force")
    assert invoke("datasets", "import", "e", moved, "--purpose", QA).output == "e holds 1,500 rows.\n"
    there = [json.loads(line) for line in invoke("datasets", "rows", "e").output.splitlines()]
    assert there == [json.loads(line) for line in invoke("datasets", "rows", "d").output.splitlines()]


def test_older_columns_move_too(invoke: Invoke, write_rows: WriteRows, tmp_path: Path) -> None:
    file = write_rows({"chat_completion_input": '[{"role":"user","content":"q"}]', "expected_answer": "a"})
    invoke("datasets", "import", "d", file, "--purpose", "eval/messages-answer")
    invoke("datasets", "export", "d", tmp_path / "d.parquet")
    taken = invoke("datasets", "import", "e", tmp_path / "d.parquet", "--purpose", "eval/messages-answer").output
    assert taken == "e holds 1 rows.\n"  # and lacks nothing
    assert invoke("datasets", "rows", "e").output == file.read_text().replace('", "', '","').replace('": "', '":"')


def test_rows_that_cannot_be_read_are_listed_with_their_lines(invoke: Invoke, tmp_path: Path) -> None:
    file, listed = tmp_path / "old.jsonl", tmp_path / "bad.txt"
    good = '{"question":"q","answer":"a"}\n'
    file.write_text(good + "oops\n" + good + "[1]\n" * 30)
    words = ("datasets", "import", "d", file, "--purpose", QA, "--unreadable", listed)
    refused = invoke(*words, code=1).output
    assert "31 rows of" in refused
    assert "Line 2 is not valid JSON" in refused
    assert "Nothing was sent." in refused
    assert "no dataset" in invoke("datasets", "show", "d", code=1).output
    assert len(listed.read_text().splitlines()) == 31
    assert listed.read_text().splitlines()[-1] == "Line 33 is not an object."
    taken = invoke(*words, "--skip-unreadable").output
    assert taken.endswith("d holds 2 rows. 31 were skipped.\n")
    assert invoke("datasets", "rows", "d").output == 2 * good


def test_columns_of_several_types_are_exported_as_json(invoke: Invoke, write_rows: WriteRows, tmp_path: Path) -> None:
    invoke(
        "datasets",
        "import",
        "d",
        write_rows({"question": "q", "answer": 1}, {"question": "q", "answer": "1"}),
        "--purpose",
        QA,
    )
    exported = invoke("datasets", "export", "d", tmp_path / "d.parquet").output
    assert exported.endswith("As JSON, for no one type holds them: answer.\n")


def test_lengths_in_tokens(invoke: Invoke, write_rows: WriteRows, tiny_llama: Path) -> None:
    invoke("datasets", "import", "d", write_rows({"question": "four", "answer": "ab"}), "--purpose", QA)
    shown = invoke("datasets", "show", "d", "--tokenizer", tiny_llama).output
    assert "Tokens" in shown
    assert re.search(r"question .* 4 to 4, mean 4 +4 to 4, mean 4", shown)
    assert "Tokens" not in invoke("datasets", "show", "d").output
    assert "There is no model 'nobody'" in invoke("datasets", "show", "d", "--tokenizer", "nobody", code=1).output


def test_a_file_that_cannot_be_written_is_told_by_its_name(
    invoke: Invoke, write_rows: WriteRows, tmp_path: Path
) -> None:
    invoke("datasets", "register", "d", "--purpose", "eval/question-answer", "--file", write_rows({"question": "q"}))
    for name in ("d.jsonl", "d.parquet"):
        output = invoke("datasets", "export", "d", tmp_path / "nowhere" / name, code=1).output
        assert output.startswith("Error: ")
        assert f"nowhere/{name}" in output
        assert "No such file or directory" in output

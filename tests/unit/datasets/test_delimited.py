from __future__ import annotations

import io

import pytest

from paddock.datasets import delimited
from paddock.datasets.delimited import read_csv, read_tsv
from paddock.datasets.rows import SourceError


def test_tabs_part_values_too() -> None:
    content = b'a\tb\n007\t"x\ty"\n1,5\t\n'
    assert list(read_tsv(io.BytesIO(content), {}).texts) == ['{"a":"007","b":"x\\ty"}', '{"a":"1,5","b":""}']


def test_declared_columns_get_their_type_and_keep_their_digits() -> None:
    types = {"i": "integer", "n": "number", "b": "boolean", "j": "json", "s": "string"}
    content = b"""i,n,b,j,s,other
7,1.10,true,"{""a"": [1.0]}",,007
-12345678901234567890123,-0.0,FALSE,null,x,
 3 ,1e400,,"""
    assert list(read_csv(io.BytesIO(content + b'" [ ]",y,z\n,,,,,\n'), types).texts) == [
        '{"i":7,"n":1.10,"b":true,"j":{"a": [1.0]},"s":"","other":"007"}',
        '{"i":-12345678901234567890123,"n":-0.0,"b":false,"j":null,"s":"x","other":""}',
        '{"i":3,"n":1e400,"b":null,"j":[ ],"s":"y","other":"z"}',
        '{"i":null,"n":null,"b":null,"j":null,"s":"","other":""}',
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("integer", "007"),
        ("integer", "1.0"),
        ("integer", "one"),
        ("number", "1."),
        ("number", "NaN"),
        ("number", "0x10"),
        ("boolean", "yes"),
        ("json", "{a}"),
        ("json", "1}, {2"),
        ("json", "[" * 200 + "]" * 200),
    ],
)
def test_a_value_that_is_not_what_was_declared_is_named(name: str, value: str) -> None:
    content = f'a,b\nx,\nx,"{value}"\n'.encode()
    with pytest.raises(SourceError, match=f"Line 3 of the source has no {name} in the column 'b'"):
        list(read_csv(io.BytesIO(content), {"b": name}).texts)


def test_a_declared_column_must_be_there() -> None:
    with pytest.raises(SourceError, match="no column 'c', which is declared"):
        list(read_csv(io.BytesIO(b"a,b\n1,2\n"), {"c": "integer"}).texts)


@pytest.mark.parametrize(
    ("types", "message"), [([], "is not an object"), ({"a": "int"}, "declares 'a' as 'int', which is none of string")]
)
def test_declarations_are_checked(types: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        delimited.check_column_types(types)

from __future__ import annotations

import pytest
from pydantic import ValidationError

from paddock.datasets import schemas


def test_enums_and_defaults_are_the_contracts() -> None:
    assert [purpose.value for purpose in schemas.DatasetPurpose] == [
        "post-training/messages",
        "eval/question-answer",
        "eval/messages-answer",
    ]
    assert schemas.URIDataSource(uri="data:,").type == "uri"
    assert schemas.RowsDataSource(rows=[]).type == "rows"


def test_a_source_is_told_by_its_type() -> None:
    body = {"identifier": "d", "provider_id": "p", "purpose": "eval/question-answer"}
    dataset = schemas.Dataset.model_validate(body | {"source": {"type": "rows", "rows": [{}]}})
    assert isinstance(dataset.source, schemas.RowsDataSource)
    with pytest.raises(ValidationError, match="source"):
        schemas.Dataset.model_validate(body | {"source": {"type": "rows", "uri": "data:,"}})

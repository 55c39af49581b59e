"""Records what lm-evaluation-harness makes of the tasks in this folder with the small model that comes with Paddock.

`recorded.json` was written so (lm_eval 0.4.13, torch 2.13.0, transformers 5.23.0, float32 on a CPU):

    python -m venv /tmp/harness && /tmp/harness/bin/pip install lm_eval==0.4.13 torch==2.13.0 transformers accelerate peft
    /tmp/harness/bin/python tests/golden/suites/record.py
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
MODEL = FOLDER.parents[2] / "src" / "paddock" / "quickstart" / "base_model"
TASKS = ("dates_choice", "words_choice", "dates_written")


def record() -> dict[str, Any]:
    """Task → its metrics, and for each row what was asked and what the model said, in the order of rows."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model = HFLM(pretrained=str(MODEL), device="cpu", dtype="float32", batch_size=4)
    found = simple_evaluate(
        model=model,
        tasks=list(TASKS),
        task_manager=TaskManager(include_path=str(FOLDER), include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
    )
    return {
        task: {
            "metrics": {name: value for name, value in found["results"][task].items() if "," in name},
            "rows": _rows(found["samples"][task]),
        }
        for task in TASKS
    }


def _rows(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows: dict[int, dict[str, Any]] = {}
    for sample in samples:
        requests = sample["arguments"]
        row = rows.setdefault(sample["doc_id"], {"context": requests[0][0], "scores": {}})
        if isinstance(requests[0][1], str):
            row["continuations"] = [request[1] for request in requests]
            row["log_likelihoods"] = [response[0][0] for response in sample["resps"]]
        else:
            row["answer"] = sample["resps"][0][0]
        names = ("acc", "acc_norm", "acc_bytes", "exact_match")
        row["scores"] |= {f"{name},{sample['filter']}": float(sample[name]) for name in names if name in sample}
    return [rows[index] for index in sorted(rows)]


if __name__ == "__main__":
    os.chdir(FOLDER)  # the harness reads data files from where it runs
    (FOLDER / "recorded.json").write_text(json.dumps(record(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

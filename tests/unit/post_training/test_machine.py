"""What a job's process leaves out."""

from __future__ import annotations

import subprocess
import sys

from paddock.wiring import Resources
from training_office import add_dataset, chats, sft_request, submit, training

_JOB = """
import pathlib, sys
from paddock import runners
from paddock.settings import Settings

assert runners.run_job(Settings(data_dir=pathlib.Path(sys.argv[1])), "job", 1) == 0
print([name for name in ("torch", "peft", "torchao", "bitsandbytes") if sys.modules.get(name)])
"""


def test_a_job_imports_no_quantisation_that_it_does_not_use(resources: Resources) -> None:
    add_dataset(resources, "chats", chats(4))
    submit(resources, sft_request("job", training("chats")))
    assert resources.jobs.claim(worker_id="test", lease_seconds=600) is not None
    command = [sys.executable, "-c", _JOB, str(resources.settings.data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['torch', 'peft']"
    assert "Failed to load" not in done.stderr

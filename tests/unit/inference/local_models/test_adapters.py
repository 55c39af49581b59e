"""What is imported for a model, and when: in a process of its own. What adapters do is told in `inference/test_adapters`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tiny_models import make_adapter, make_llama

SCRIPT = """
import sys
from pathlib import Path

from paddock import hub
from paddock.inference.local_models.loading import LoadedModels
from paddock.inference.local_models.model_files import ModelFiles
from paddock.settings import Settings

base, adapter = map(Path, sys.argv[1:])
models, config = LoadedModels(Settings()), hub.read_config(base, "model")
for which in (None, adapter):
    with models.language_model("model", ModelFiles(base, config, which)).active() as model:
        print(type(model.model.layers[0].self_attn.q_proj).__module__, end=" ")
    print(*sorted({"peft", "bitsandbytes", "sentence_transformers"} & {*sys.modules}))
"""


def test_what_a_model_does_not_need_is_not_imported_for_it(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", hidden_size=64)
    adapter = make_adapter(base, tmp_path / "adapter")
    command = [sys.executable, "-c", SCRIPT, str(base), str(adapter)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert process.returncode == 0, process.stderr
    plain, adapted = process.stdout.splitlines()
    assert plain.split() == ["torch.nn.modules.linear"]
    assert adapted.split()[0] == "peft.tuners.lora.layer"
    assert "sentence_transformers" not in adapted

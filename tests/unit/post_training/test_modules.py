"""Which layers an adapter goes on, by names alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from paddock.post_training import modules
from paddock.post_training.config import Lora

LORA = Lora(("q_proj",), mlp=False, output=False, rank=4, alpha=8, use_dora=False, quantize_base=False, dropout=0.0)

LLAMA = [
    "model.embed_tokens",
    *(f"model.layers.0.self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "o_proj")),
    *(f"model.layers.0.mlp.{name}" for name in ("gate_proj", "up_proj", "down_proj")),
    "lm_head",
]
GPT2 = ["transformer.wte", "transformer.h.0.attn.c_attn", "transformer.h.0.attn.c_proj", "transformer.h.0.mlp.c_proj"]


def test_names_come_from_the_weights_header(tiny_llama: Path) -> None:
    names = modules.linear_layers(tiny_llama)
    assert names["model.layers.1.mlp.down_proj"] == (32, 64)
    assert modules.inputs_that_groups_do_not_divide(names, 16) == set()
    assert modules.inputs_that_groups_do_not_divide(names, 64) == {32}
    assert "model.layers.1.self_attn.q_proj" in names
    assert "lm_head" in names
    assert not any("norm" in name for name in names)


@pytest.mark.parametrize(
    ("names", "lora", "targets"),
    [
        (LLAMA, LORA, ["q_proj"]),
        (LLAMA, replace(LORA, attn_modules=("v_proj", "output_proj")), ["o_proj", "v_proj"]),
        (LLAMA, replace(LORA, attn_modules=(), mlp=True), ["down_proj", "gate_proj", "up_proj"]),
        (LLAMA, replace(LORA, output=True), ["lm_head", "q_proj"]),
        (["decoder.layers.0.fc1", "decoder.layers.0.fc2"], replace(LORA, attn_modules=(), mlp=True), ["fc1", "fc2"]),
        # The same last name in attention and MLP: only the one that was asked for.
        (GPT2, replace(LORA, attn_modules=("c_proj",)), ["attn.c_proj"]),
        (GPT2, replace(LORA, attn_modules=(), mlp=True), ["mlp.c_proj"]),
        (GPT2, replace(LORA, attn_modules=("c_proj",), mlp=True), ["c_proj"]),
    ],
)
def test_targets(names: list[str], lora: Lora, targets: list[str]) -> None:
    assert modules.lora_targets(names, lora, "/algorithm_config") == (targets, [])


@pytest.mark.parametrize(
    ("names", "lora", "pointer", "words"),
    [
        (
            LLAMA,
            replace(LORA, attn_modules=("q_proj", "w")),
            "lora_attn_modules/1",
            "no module 'w'; it has k_proj, o_proj",
        ),
        (LLAMA, replace(LORA, attn_modules=("gate_proj",)), "lora_attn_modules/0", "no module 'gate_proj'"),
        (["h.0.attn.q_proj"], replace(LORA, mlp=True), "apply_lora_to_mlp", "no MLP"),
        (LLAMA[:-1], replace(LORA, output=True), "apply_lora_to_output", "tied to the embeddings"),
    ],
)
def test_what_is_not_there_is_named(names: list[str], lora: Lora, pointer: str, words: str) -> None:
    _, errors = modules.lora_targets(names, lora, "/algorithm_config")
    (error,) = errors
    assert error.pointer == f"/algorithm_config/{pointer}"
    assert words in error.message

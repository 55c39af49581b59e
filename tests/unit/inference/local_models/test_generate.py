"""The decoding loop against transformers' own `generate`, one sequence at a time."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

from paddock.errors import BackendError
from paddock.inference.local_models import generate as generate_module
from paddock.inference.local_models.generate import Sequence, generate
from paddock.inference.local_models.sampling import Knobs

PROMPTS = [[10, 11, 12], [20], [30 + i for i in range(40)], [5, 6, 7, 8, 9], [99, 98], [17] * 25]
SMALL = {
    "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "max_position_embeddings": 256, "pad_token_id": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def llama(tiny_llama: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_llama).eval()


@pytest.fixture(scope="module")
def mistral() -> Any:
    """Its window of 8 tokens makes a cache whose rows cannot be joined by others."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=261, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, sliding_window=8,
    )  # fmt: skip
    return MistralForCausalLM(config).eval()


@pytest.fixture(scope="module")
def qwen_vl() -> Any:
    """It counts an image by its height and width, where positions of text go on by what the image took (M-RoPE)."""
    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
    config = Qwen2VLConfig(
        vision_config={
            "depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 2,
            "spatial_merge_size": 2, "temporal_patch_size": 1,
        },
        text_config=SMALL | {"vocab_size": 261, "hidden_size": 32, "initializer_range": 0.5, "rope_parameters": rope},
        image_token_id=260, video_token_id=259, vision_start_token_id=258, vision_end_token_id=257,
    )  # fmt: skip
    return Qwen2VLForConditionalGeneration(config).eval()


class Ends:
    """What came of some sequences, in the order of their ends."""

    def __init__(self) -> None:
        self.ids: dict[int, list[int]] = {}
        self.reasons: dict[int, str] = {}

    def sequence(
        self,
        name: int,
        prompt_ids: list[int],
        max_new_tokens: int = 12,
        *,
        temperature: float = 0.0,
        penalty: float = 1.0,
        end_ids: frozenset[int] = frozenset(),
        is_stopped: Callable[[list[int]], bool] = lambda _ids: False,
        is_abandoned: Callable[[], bool] = lambda: False,
        images: dict[str, torch.Tensor] | None = None,
    ) -> Sequence:
        def finish(ids: list[int], reason: str) -> None:
            assert name not in self.ids
            self.ids[name], self.reasons[name] = list(ids), reason

        knobs = Knobs(temperature, 0, 1.0, penalty, random.Random(name))
        return Sequence(prompt_ids, max_new_tokens, knobs, end_ids, is_stopped, is_abandoned, finish, images or {})


def run(model: Any, sequences: list[Sequence], *, max_rows: int = 8, later: list[Sequence] | None = None) -> None:
    coming = list(later or [])

    def more(limit: int) -> list[Sequence]:
        taken, coming[:] = coming[:limit], coming[limit:]
        return taken

    generate(model, sequences, more, max_rows=max_rows)
    while coming:  # as the engine takes the next batch when one has ended that none could join
        generate(model, more(max_rows), more, max_rows=max_rows)


def reference(model: Any, prompt_ids: list[int], max_new_tokens: int, **options: Any) -> list[int]:
    ids = torch.tensor([prompt_ids])
    answer = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=None,
        pad_token_id=0,
        **options,
    )
    return answer[0, len(prompt_ids) :].tolist()


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_a_padded_batch_says_what_each_says_alone(llama: Any, penalty: float) -> None:
    ends = Ends()
    lengths = [3, 20, 7, 12, 1, 30]
    run(llama, [ends.sequence(i, p, n, penalty=penalty) for i, (p, n) in enumerate(zip(PROMPTS, lengths, strict=True))])
    for index, (prompt, length) in enumerate(zip(PROMPTS, lengths, strict=True)):
        assert ends.ids[index] == reference(llama, prompt, length, repetition_penalty=penalty)
    assert set(ends.reasons.values()) == {"length"}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        # Positions in the attention's biases, windows of eight tokens, and recurrent layers between attention.
        ("bloom", {"n_layer": 2, "n_head": 4}),
        ("gemma2", SMALL | {"sliding_window": 8}),
        ("qwen3_next", SMALL | {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2,
                                "linear_num_value_heads": 4, "num_experts": 4, "num_experts_per_tok": 2,
                                "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16}),
    ],
)  # fmt: skip
def test_other_architectures(kind: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=261, hidden_size=32, **options)
    model = AutoModelForCausalLM.from_config(config).float().eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:  # so that it says different things for different texts
            torch.nn.init.normal_(parameter, std=0.3)
    ends = Ends()
    run(model, [ends.sequence(i, prompt, 6 + 3 * i) for i, prompt in enumerate(PROMPTS)])
    for index, prompt in enumerate(PROMPTS):
        assert ends.ids[index] == reference(model, prompt, 6 + 3 * index)


def test_a_place_that_was_left_has_no_positions_beyond_the_model_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of twelve ends at the end of the context; its place is computed along, the others say what they say alone. So
    in a cache whose columns cannot be cut."""
    monkeypatch.setattr(generate_module.kv_cache, "is_joinable", lambda _cache: False)
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "gpt2", vocab_size=261, n_embd=32, n_layer=2, n_head=4, n_positions=40, bos_token_id=None, eos_token_id=None
    )
    model = AutoModelForCausalLM.from_config(config).float().eval()
    prompts = [[*range(10, 40)], *([number, number + 1] for number in range(50, 61))]
    lengths = [10, *[38] * 11]
    ends = Ends()
    run(model, [ends.sequence(i, p, n) for i, (p, n) in enumerate(zip(prompts, lengths, strict=True))], max_rows=12)
    assert next(iter(ends.ids)) == 0
    for index, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
        assert ends.ids[index] == reference(model, prompt, length)


def test_sequences_join_and_leave_a_running_batch(llama: Any) -> None:
    ends = Ends()
    sequences = [ends.sequence(i, PROMPTS[i % 6], 4 + 5 * (i % 4)) for i in range(24)]
    run(llama, sequences[:2], max_rows=3, later=sequences[2:])
    for index in range(24):
        assert ends.ids[index] == reference(llama, PROMPTS[index % 6], 4 + 5 * (index % 4))


def test_one_that_joins_a_long_answer_is_done_before_it(llama: Any) -> None:
    ends = Ends()
    run(llama, [ends.sequence(0, PROMPTS[0], 60)], later=[ends.sequence(1, PROMPTS[1], 5)])
    assert list(ends.ids) == [1, 0]


def test_a_cache_that_cannot_be_joined_runs_batch_after_batch(mistral: Any) -> None:
    ends = Ends()
    sequences = [ends.sequence(i, PROMPTS[i % 6], 4 + 5 * (i % 4)) for i in range(10)]
    run(mistral, sequences[:4], max_rows=4, later=sequences[4:])
    for index in range(10):
        assert ends.ids[index] == reference(mistral, PROMPTS[index % 6], 4 + 5 * (index % 4))


def test_draws_do_not_depend_on_the_batch(llama: Any) -> None:
    alone, together = Ends(), Ends()
    for index, prompt in enumerate(PROMPTS):
        run(llama, [alone.sequence(index, prompt, temperature=1.0)])
    run(llama, [together.sequence(i, p, temperature=1.0) for i, p in enumerate(PROMPTS)])
    assert together.ids == alone.ids


@contextlib.contextmanager
def columns_read(model: Any) -> Iterator[list[tuple[int, int]]]:
    """The rows and columns of each pass that reads prompts, as the model sees them."""
    passes: list[tuple[int, int]] = []

    def note(_module: Any, _arguments: Any, options: dict[str, Any]) -> None:
        rows, columns = options["input_ids"].shape
        if columns > 1:
            passes.append((rows, columns))

    hook = model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield passes
    finally:
        hook.remove()


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_answers_to_one_prompt_share_its_reading(kind: str, request: pytest.FixtureRequest) -> None:
    """Greedy ones and drawn ones, of unlike lengths, beside another prompt; with a window, too."""
    model = request.getfixturevalue(kind)
    wanted = [(PROMPTS[2], 5 + 4 * (i % 3), float(i % 2), 1.0 + 0.3 * (i % 4)) for i in range(7)]
    wanted.append((PROMPTS[3], 9, 0.0, 1.0))
    alone, together = Ends(), Ends()
    for name, (prompt, length, temperature, penalty) in enumerate(wanted):
        run(model, [alone.sequence(name, prompt, length, temperature=temperature, penalty=penalty)])
    sequences = [
        together.sequence(name, prompt, length, temperature=temperature, penalty=penalty)
        for name, (prompt, length, temperature, penalty) in enumerate(wanted)
    ]
    with columns_read(model) as passes:
        run(model, sequences)
    assert passes == [(2, 40)]
    assert sorted(sequence.num_prefilled_tokens for sequence in sequences) == [0] * 6 + [5, 40]
    assert together.ids == alone.ids
    assert len({tuple(ids) for ids in together.ids.values()}) > 4


def test_one_that_comes_late_shares_the_reading_of_one_that_runs(llama: Any) -> None:
    """The one that runs has another of unlike length beside it, which has left and stays in turn."""
    for other in (PROMPTS[2], PROMPTS[1]):
        alone, together = Ends(), Ends()
        for name, prompt, length, temperature in (
            (0, PROMPTS[3], 50, 0.0),
            (1, other, 8, 0.0),
            (2, PROMPTS[3], 6, 1.0),
        ):
            run(llama, [alone.sequence(name, prompt, length, temperature=temperature)])
        late = [together.sequence(2, PROMPTS[3], 6, temperature=1.0)]
        with columns_read(llama) as passes:
            run(llama, [together.sequence(0, PROMPTS[3], 50), together.sequence(1, other, 8)], max_rows=2, later=late)
        assert len(passes) == 1
        assert late[0].num_prefilled_tokens == 0
        assert together.ids == alone.ids


def test_a_long_prompt_is_read_once_however_many_answers_it_gets(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate_module, "_MAX_PREFILL_POSITIONS", 50)
    ends = Ends()
    with columns_read(llama) as passes:
        run(llama, [ends.sequence(name, PROMPTS[2], 6, temperature=1.0) for name in range(12)], max_rows=8)
    assert passes[0] == (1, 40)
    assert len(passes) == 2  # eight, then the four for which there was no room until all had ended
    assert len(ends.ids) == 12


def test_an_end_token_and_a_stop_end_one_row_alone(llama: Any) -> None:
    expected = reference(llama, PROMPTS[0], 12)
    end_id = next(token for token in expected if token != expected[0])
    first = expected.index(end_id)
    ends = Ends()
    run(
        llama,
        [
            ends.sequence(0, PROMPTS[0], end_ids=frozenset({end_id})),
            ends.sequence(1, PROMPTS[0]),
            ends.sequence(2, PROMPTS[0], is_stopped=lambda ids: len(ids) == 2),
        ],
    )
    assert ends.ids == {0: expected[: first + 1], 1: expected, 2: expected[:2]}
    assert ends.reasons == {0: "stop", 1: "length", 2: "stop"}


def test_a_row_that_nobody_waits_for_is_left(llama: Any) -> None:
    ends = Ends()
    num_asked = 0

    def is_abandoned() -> bool:
        nonlocal num_asked
        num_asked += 1
        return num_asked >= 3

    run(llama, [ends.sequence(0, PROMPTS[0], 500, is_abandoned=is_abandoned), ends.sequence(1, PROMPTS[1], 6)])
    assert num_asked == 3
    assert list(ends.ids) == [1]


def test_long_prompts_are_read_in_bounded_passes(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With little memory the batch is smaller and the answers are the same; one that is too long still runs, alone."""
    monkeypatch.setattr(generate_module, "MAX_POSITIONS", 60)
    monkeypatch.setattr(generate_module, "_MAX_PREFILL_POSITIONS", 30)
    ends = Ends()
    run(llama, [ends.sequence(i, prompt, 12) for i, prompt in enumerate(PROMPTS)])
    for index, prompt in enumerate(PROMPTS):
        assert ends.ids[index] == reference(llama, prompt, 12)


def test_prompts_of_unlike_lengths_are_read_apart(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    forward = generate_module.forward

    def noted(model: Any, ids_BT: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        shapes.append(tuple(ids_BT.shape))
        return forward(model, ids_BT, *arguments, **options)

    monkeypatch.setattr(generate_module, "forward", noted)
    monkeypatch.setattr(generate_module, "_MIN_PADDING", 0)
    prompts = [[10 + row] * length for row, length in enumerate((30, 4, 28, 4, 29))]
    ends = Ends()
    run(llama, [ends.sequence(i, prompt, 6) for i, prompt in enumerate(prompts)])
    assert [shape for shape in shapes if shape[1] > 1] == [(2, 4), (3, 30)]
    for index, prompt in enumerate(prompts):
        assert ends.ids[index] == reference(llama, prompt, 6)


def test_numbers_that_are_none_are_an_error(tiny_llama: Path) -> None:
    broken = AutoModelForCausalLM.from_pretrained(tiny_llama)
    with torch.no_grad():
        broken.lm_head.weight.fill_(float("nan"))
    with pytest.raises(BackendError, match="not numbers"):
        run(broken, [Ends().sequence(0, [1, 2])])


def test_images_have_positions_of_the_model_s_own(qwen_vl: Any) -> None:
    """A row with an image of 4 × 6 tokens, which takes six positions, between rows of text that join and leave."""
    torch.manual_seed(1)
    prompt = [258, *[260] * 24, 257, 10, 11]
    kinds = torch.tensor([[0] + [1] * 24 + [0] * 3])
    grid = torch.tensor([[1, 8, 12]])
    images = {"pixel_values": torch.randn(96, 12), "image_grid_thw": grid, "mm_token_type_ids": kinds}
    ids = torch.tensor([prompt])
    expected = qwen_vl.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        **images,
        max_new_tokens=12,
        do_sample=False,
        eos_token_id=300,
    )[0, len(prompt) :].tolist()
    ends = Ends()
    sequences = [
        ends.sequence(0, PROMPTS[0], 20),
        ends.sequence(1, prompt, images=images),
        ends.sequence(2, PROMPTS[2], 4),
    ]
    run(qwen_vl, sequences)
    assert ends.ids[1] == expected
    for name, text in ((0, PROMPTS[0]), (2, PROMPTS[2])):
        alone = Ends()
        run(qwen_vl, [alone.sequence(name, text, len(ends.ids[name]))])
        assert alone.ids[name] == ends.ids[name]


def test_answers_about_one_image_share_its_reading(qwen_vl: Any) -> None:
    """Another image of the same size has the same tokens, and is read by itself."""
    torch.manual_seed(1)
    prompt = [258, *[260] * 24, 257, 10, 11]
    kinds, grid = torch.tensor([[0] + [1] * 24 + [0] * 3]), torch.tensor([[1, 8, 12]])
    first, second = (
        {"pixel_values": torch.randn(96, 12), "image_grid_thw": grid, "mm_token_type_ids": kinds} for _ in range(2)
    )
    shown = [first, second, {name: value.clone() for name, value in first.items()}, first]
    alone, together = Ends(), Ends()
    for name, images in enumerate(shown):
        run(qwen_vl, [alone.sequence(name, prompt, 10, images=images, temperature=float(name == 3))])
    with columns_read(qwen_vl) as passes:
        run(
            qwen_vl,
            [
                together.sequence(name, prompt, 10, images=images, temperature=float(name == 3))
                for name, images in enumerate(shown)
            ],
        )
    assert passes == [(1, 28), (1, 28)]
    assert together.ids == alone.ids
    assert together.ids[0] == together.ids[2]
    assert together.ids[0] != together.ids[1]

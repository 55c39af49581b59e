"""The sampling parameters: what a remote server is sent, and what a model of this machine then says."""

from __future__ import annotations

from typing import Any

from contract.field_cases.lab import Lab
from contract.field_cases.operations import ROWS, config, config_field, evaluate, refusal

STRATEGY = "eval_candidate.sampling_params.strategy"
GREEDY = {"type": "greedy"}
FREE = {"type": "top_p", "temperature": 1.0, "top_p": 1.0}
KNOBS = ("temperature", "top_p", "top_k")


def _sent(lab: Lab, operation: str, **params: Any) -> dict[str, Any]:
    """The body that the other side gets for one row."""
    found = evaluate(lab, operation, config(sampling=params), rows=ROWS[:1])
    (body,) = found.asked
    return body


def _sent_knobs(lab: Lab, operation: str, strategy: dict[str, Any]) -> dict[str, Any]:
    body = _sent(lab, operation, strategy=strategy)
    return {knob: body[knob] for knob in KNOBS if knob in body}


def _said(lab: Lab, operation: str, strategy: dict[str, Any], **params: Any) -> str:
    """What the model on this machine says, at most 24 bytes: in free sampling never the same twice."""
    sampling = {"max_tokens": 24, "strategy": strategy} | params
    return evaluate(lab, operation, config("tiny", sampling=sampling), rows=ROWS[:1]).texts[0]


@config_field(f"{STRATEGY}<GreedySamplingStrategy>.type string")
def greedy(lab: Lab, operation: str) -> None:
    assert _sent_knobs(lab, operation, GREEDY) == {"temperature": 0.0}
    assert _sent_knobs(lab, operation, FREE)["temperature"] == 1.0
    said = _said(lab, operation, GREEDY)
    assert _said(lab, operation, GREEDY) == said
    assert _said(lab, operation, FREE) != said
    pointer, message = refusal(lab, operation, config(sampling={"strategy": {"type": "beam"}}))
    assert pointer == "/eval_candidate/sampling_params/strategy"
    assert "beam" in message


@config_field(f"{STRATEGY}<TopPSamplingStrategy>.type string")
def top_p_type(lab: Lab, operation: str) -> None:
    knobs = {"temperature": 0.7, "top_p": 0.4, "top_k": 3}
    assert _sent_knobs(lab, operation, {"type": "top_p"} | knobs) == {"temperature": 0.7, "top_p": 0.4}
    assert _sent_knobs(lab, operation, {"type": "greedy"} | knobs) == {"temperature": 0.0}
    assert _said(lab, operation, FREE) != _said(lab, operation, FREE)
    assert _said(lab, operation, FREE | GREEDY) == _said(lab, operation, FREE | GREEDY)


@config_field(f"{STRATEGY}<TopPSamplingStrategy>.temperature number")
def temperature(lab: Lab, operation: str) -> None:
    for sent, received in ((0.3, 0.3), (1.7, 1.7), (None, 1.0)):
        knobs = _sent_knobs(lab, operation, FREE | {"temperature": sent})
        assert knobs["temperature"] == received
    assert _said(lab, operation, FREE | {"temperature": 0.0}) == _said(lab, operation, GREEDY)
    assert _said(lab, operation, FREE | {"temperature": None}) != _said(lab, operation, GREEDY)


@config_field(f"{STRATEGY}<TopPSamplingStrategy>.top_p number")
def top_p(lab: Lab, operation: str) -> None:
    for sent, received in ((0.2, 0.2), (0.8, 0.8), (None, 1.0)):
        assert _sent_knobs(lab, operation, FREE | {"top_p": sent})["top_p"] == received
    # So small a share leaves the most likely token alone.
    assert _said(lab, operation, FREE | {"top_p": 1e-6}) == _said(lab, operation, GREEDY)
    assert _said(lab, operation, FREE | {"top_p": None}) != _said(lab, operation, GREEDY)


@config_field(f"{STRATEGY}<TopKSamplingStrategy>.type string")
def top_k_type(lab: Lab, operation: str) -> None:
    knobs = {"temperature": 0.7, "top_p": 0.4, "top_k": 3}
    assert _sent_knobs(lab, operation, {"type": "top_k"} | knobs) == {"temperature": 1.0, "top_p": 1.0, "top_k": 3}
    assert _sent_knobs(lab, operation, {"type": "top_p"} | knobs) == {"temperature": 0.7, "top_p": 0.4}
    top_k = {"type": "top_k", "top_k": 200}
    assert _said(lab, operation, top_k) != _said(lab, operation, top_k)
    assert _said(lab, operation, top_k | GREEDY) == _said(lab, operation, GREEDY)


@config_field(f"{STRATEGY}<TopKSamplingStrategy>.top_k integer")
def top_k(lab: Lab, operation: str) -> None:
    for sent in (2, 40):
        assert _sent_knobs(lab, operation, {"type": "top_k", "top_k": sent})["top_k"] == sent
    assert _said(lab, operation, {"type": "top_k", "top_k": 1}) == _said(lab, operation, GREEDY)
    assert _said(lab, operation, {"type": "top_k", "top_k": 200}) != _said(lab, operation, GREEDY)


@config_field("eval_candidate.sampling_params.max_tokens integer")
def max_tokens(lab: Lab, operation: str) -> None:
    for sent in (3, 9):
        assert _sent(lab, operation, max_tokens=sent)["max_tokens"] == sent
        (generation,) = evaluate(
            lab, operation, config("tiny", sampling={"max_tokens": sent}), rows=ROWS[:1]
        ).generations
        assert generation["num_generated_tokens"] == sent
        assert generation["finish_reason"] == "length"
    assert "max_tokens" not in _sent(lab, operation)


@config_field("eval_candidate.sampling_params.repetition_penalty number")
def repetition_penalty(lab: Lab, operation: str) -> None:
    for sent in (0.5, 1.3):
        assert _sent(lab, operation, repetition_penalty=sent)["repetition_penalty"] == sent
    # 1 is no penalty, and the field is none of OpenAI's: a server that does not know it need not see it.
    assert "repetition_penalty" not in _sent(lab, operation, repetition_penalty=1.0)
    said = {penalty: _said(lab, operation, GREEDY, repetition_penalty=penalty) for penalty in (1.0, 4.0)}
    assert len(set(said[4.0])) > len(set(said[1.0]))


@config_field("eval_candidate.sampling_params.stop[] string")
def stop(lab: Lab, operation: str) -> None:
    # More of them than OpenAI itself takes: how many are too many is the other side's to say.
    for sent in (["\n"], ["a", "b", "c", "d", "e", "f"]):
        assert _sent(lab, operation, stop=sent)["stop"] == sent
    said = _said(lab, operation, GREEDY)
    for end in (said[4], said[-1]):
        assert _said(lab, operation, GREEDY, stop=["no such text", end]) == said[: said.index(end)]

"""What is minimised: pure functions of log-probabilities, in float32 whatever the model computes in.

Shapes: N tokens that bear a loss, V words of the vocabulary, P pairs. Every function gives one value a token or a pair;
sums and means are taken by the loop, over the whole optimiser step.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid, relu


def token_log_probs(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """log p(target) of each token; its negative is the cross-entropy, in nats. Returns N."""
    return -cross_entropy(logits_NV.float(), targets_N, reduction="none")


def sequence_log_probs(log_probs_N: Tensor, is_target_BT: Tensor) -> Tensor:
    """The log-probability of each sequence's answer: the sum (not the mean) over its tokens. Returns B.

    `log_probs_N` belongs to the true places of `is_target_BT`, in their order."""
    log_probs_BT = torch.zeros(is_target_BT.shape, dtype=log_probs_N.dtype, device=log_probs_N.device)
    return log_probs_BT.masked_scatter(is_target_BT, log_probs_N).sum(dim=1)


# Below, `margins_P` is h = log(π(chosen)/π_ref(chosen)) - log(π(rejected)/π_ref(rejected)), 0 at the first step.


def sigmoid(margins_P: Tensor, beta: float) -> Tensor:
    """DPO, equation 7 of Rafailov et al. 2023 (arXiv:2305.18290): -log σ(β h)."""
    return -logsigmoid(beta * margins_P)


def hinge(margins_P: Tensor, beta: float) -> Tensor:
    """SLiC's hinge (Zhao et al. 2023, arXiv:2305.10425) on the normalised margin of RSO (Liu et al. 2023,
    arXiv:2309.06657, the `hinge-norm` loss): max(0, 1 - β h)."""
    return relu(1 - beta * margins_P)


def ipo(margins_P: Tensor, beta: float) -> Tensor:
    """IPO, equation 17 of Azar et al. 2023 (arXiv:2310.12036), β being its τ: (h - 1/(2β))².

    As in the paper, h is of whole answers; some implementations divide it by their lengths."""
    return (margins_P - 1 / (2 * beta)) ** 2


LOSSES: dict[str, Callable[[Tensor, float], Tensor]] = {"sigmoid": sigmoid, "hinge": hinge, "ipo": ipo}
"""The contract's `loss_type` → the loss of each pair."""

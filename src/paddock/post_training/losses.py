"""What is minimised: pure functions of log-probabilities, in float32 whatever the model computes in.

Shapes: N tokens that bear a loss, V words of the vocabulary, M answers, P pairs. A loss is one value a token or a pair; sums
and means are taken by the loop, over the whole optimiser step.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid, relu


def token_log_probs(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """log p(target) of each token; its negative is the cross-entropy, in nats. Returns N."""
    return -cross_entropy(logits_NV.float(), targets_N, reduction="none")


def answer_log_probs(log_probs_N: Tensor, num_tokens_M: Tensor) -> Tensor:
    """The log-probability of each answer: the sum (not the mean) over its tokens. Returns M.

    `log_probs_N` holds the tokens of answer after answer, `num_tokens_M` how many each has."""
    places_T = torch.arange(int(num_tokens_M.max()), device=log_probs_N.device)
    is_token_MT = places_T < num_tokens_M.to(log_probs_N.device)[:, None]
    log_probs_MT = torch.zeros(is_token_MT.shape, dtype=log_probs_N.dtype, device=log_probs_N.device)
    return log_probs_MT.masked_scatter(is_token_MT, log_probs_N).sum(dim=1)


# Below, `log_ratios_P2` is log(π/π_ref) of the chosen and of the rejected answer: 0 at the first step. h, the margin, is the
# first less the second.


def sigmoid(log_ratios_P2: Tensor, beta: float) -> Tensor:
    """DPO, equation 7 of Rafailov et al. 2023 (arXiv:2305.18290): -log σ(β h)."""
    return -logsigmoid(beta * margins(log_ratios_P2))


def hinge(log_ratios_P2: Tensor, beta: float) -> Tensor:
    """SLiC's hinge (Zhao et al. 2023, arXiv:2305.10425) on the normalised margin of RSO (Liu et al. 2023,
    arXiv:2309.06657, the `hinge-norm` loss): max(0, 1 - β h)."""
    return relu(1 - beta * margins(log_ratios_P2))


def ipo(log_ratios_P2: Tensor, beta: float) -> Tensor:
    """IPO, equation 17 of Azar et al. 2023 (arXiv:2310.12036), β being its τ: (h - 1/(2β))².

    As in the paper, h is of whole answers; some implementations divide it by their lengths."""
    return (margins(log_ratios_P2) - 1 / (2 * beta)) ** 2


def kto_pair(log_ratios_P2: Tensor, kl_2: Tensor, beta: float) -> Tensor:
    """KTO's value of an answer (Ethayarajh et al. 2024, arXiv:2402.01306) for both answers of a pair; it has no paper of
    its own. With r the log-ratio of each answer, the mean of

        1 - σ(β (r_chosen - KL_rejected))   and   1 - σ(β (KL_chosen - r_rejected)).

    `kl_2` (`kl_estimate` of chosen and rejected) is the point that an answer is compared with; no gradient goes there."""
    kl_chosen, kl_rejected = kl_2.detach()
    chosen_P, rejected_P = log_ratios_P2.unbind(dim=1)
    # 1 - σ(x) = σ(-x), which keeps its digits where σ(x) is nearly 1.
    desired_P = torch.sigmoid(-beta * (chosen_P - kl_rejected))
    undesired_P = torch.sigmoid(-beta * (kl_chosen - rejected_P))
    return (desired_P + undesired_P) / 2


def kl_estimate(log_ratios_P2: Tensor) -> Tensor:
    """How far the policy went from its reference on the chosen and on the rejected answers: the mean log-ratio of each, no
    less than 0, as a divergence is. Returns 2."""
    return log_ratios_P2.detach().mean(dim=0).clamp(min=0)


def margins(log_ratios_P2: Tensor) -> Tensor:
    """h of each pair. Returns P."""
    return log_ratios_P2[:, 0] - log_ratios_P2[:, 1]


MARGIN_LOSSES: dict[str, Callable[[Tensor, float], Tensor]] = {"sigmoid": sigmoid, "hinge": hinge, "ipo": ipo}
"""The contract's `loss_type` → the loss of each pair, for all but `kto_pair`, which looks beyond the pair."""

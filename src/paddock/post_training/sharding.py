"""Weights split among the workers of a team, by torch's `fully_shard`: each holds a part, and the whole of a layer is put
together only where it is used."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from paddock.post_training.team import Team


class Shards:
    """A model whose weights are split."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.peak_whole_bytes = 0
        """The most that weights took which lay whole here between the forward and the backward pass."""

    def look(self) -> None:
        """See how much is whole at this moment."""
        whole_ones = (p for p in self._model.parameters() if not isinstance(p, DTensor))
        self.peak_whole_bytes = max(self.peak_whole_bytes, sum(num_local_bytes(p) for p in whole_ones))


def shard(model: Any, team: Team, *, memory_efficient: bool, cpu_offload: bool) -> Shards:
    """Split the model's weights: a unit a block, and one for the rest.

    `memory_efficient`: the embeddings and the output layer, which are the largest, are let go between their uses as the
    blocks are, and are units of their own unless they are one. `cpu_offload`: the parts, gradients and the optimiser's
    state lie in the host's memory, and so does its step."""
    mesh = init_device_mesh(team.device.type, (team.size,))
    policy = CPUOffloadPolicy() if cpu_offload else OffloadPolicy()
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    units = [m for m in base.modules() if type(m).__name__ in (base._no_split_modules or ())]
    first, last = base.get_input_embeddings(), base.get_output_embeddings()
    if memory_efficient and first.weight is not last.weight:
        units += [first, last]
    for unit in units:
        fully_shard(unit, mesh=mesh, offload_policy=policy)
    fully_shard(model, mesh=mesh, offload_policy=policy, reshard_after_forward=memory_efficient)
    return Shards(model)


def num_local_bytes(parameter: Tensor) -> int:
    """What a weight, or this worker's part of it, takes."""
    part = local(parameter)
    return int(part.numel()) * int(part.element_size())


def local(tensor: Tensor) -> Tensor:
    """A tensor, or this worker's part of it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """A tensor put together from all workers, who must all ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """A model's state put together, with weights that are one under several names still one."""
    put_together: dict[int, Tensor] = {}
    state = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in put_together:
            put_together[id(tensor)] = whole(tensor.detach())
        state[name] = put_together[id(tensor)]
    return state


def whole_state(optimizer: Any) -> dict[str, Any]:
    """An optimiser's state put together."""
    state: dict[str, Any] = optimizer.state_dict()
    return state | {
        "state": {
            number: {name: whole(v) if isinstance(v, Tensor) else v for name, v in values.items()}
            for number, values in state["state"].items()
        }
    }


def load_state(optimizer: Any, state: dict[str, Any]) -> None:
    """Give an optimiser a state that was put together, or its part of it."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    split = {
        number: {
            name: part_of(value, parameters[number]) if isinstance(value, Tensor) and value.dim() else value
            for name, value in values.items()
        }
        for number, values in state["state"].items()
    }
    optimizer.load_state_dict(state | {"state": split})


def part_of(tensor: Tensor, like: Tensor) -> Tensor:
    """This worker's part of a tensor, split as `like` is."""
    if not isinstance(like, DTensor):
        return tensor
    with torch.no_grad():
        return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)

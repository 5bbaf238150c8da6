"""Prompt-driven norms: one batch norm per training dataset, modulated by the dataset's learnt embedding.

After Point Prompt Training (arXiv 2308.09718), under the names and shapes of the published Mosaic3D checkpoints: norm j for
condition j, then ``y (1 + scale) + shift`` with (shift, scale) = Linear(SiLU(embedding)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mosaic3d_core.sparse import SparseTensor

#: Width of a condition's embedding in the published nets.
CONTEXT_CHANNELS = 256
BN_EPS = 1e-3


@dataclass(frozen=True, eq=False)
class Condition:
    """The conditions of a batch.

    Attributes:
        index: Position of each sample's condition in the list of the net; one entry holds for all samples.
        context: Embedding of each condition of the net. Shape (J, 256).
    """

    index: tuple[int, ...]
    context: Tensor

    @property
    def shared(self) -> int | None:
        """The condition of all samples, None when they differ."""
        return self.index[0] if len(set(self.index)) == 1 else None


def batch_norm(channels: int, momentum: float) -> nn.BatchNorm1d:
    """A batch norm with the published epsilon."""
    return nn.BatchNorm1d(channels, eps=BN_EPS, momentum=momentum)


class PromptDrivenNorm(nn.Module):
    """Batch norm of the condition, then its modulation.

    Args:
        channels: Width of the features.
        momentum: Batch-norm momentum.
        conditions: Number of conditions J.
    """

    def __init__(self, channels: int, momentum: float, conditions: int) -> None:
        super().__init__()
        self.bns = nn.ModuleList(batch_norm(channels, momentum) for _ in range(conditions))
        linear = nn.Linear(CONTEXT_CHANNELS, 2 * channels)
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
        self.modulation = nn.Sequential(nn.SiLU(), linear)

    def forward(self, x: SparseTensor) -> Tensor:
        """Normalised features (N, C); ``x.condition`` says which condition each sample has.

        Raises:
            ValueError: If ``x`` has no condition.
        """
        if not isinstance(x.condition, Condition):
            raise ValueError("a prompt-driven norm needs a condition: call the net with condition=...")
        condition = x.condition
        shared = condition.shared
        if shared is not None:
            return self._one(x.features, shared, condition.context)
        # each sample with its own norm: statistics of a condition come from all its samples in the batch
        of_sample = torch.tensor(condition.index, device=x.device)
        of_row = of_sample[x.indices[:, 0].long()]
        out = torch.empty_like(x.features)
        for j in sorted(set(condition.index)):
            rows = torch.nonzero(of_row == j)[:, 0]
            if len(rows):
                out = out.index_copy(0, rows, self._one(x.features[rows], j, condition.context).to(out.dtype))
        return out

    def _one(self, features: Tensor, j: int, context: Tensor) -> Tensor:
        shift, scale = self.modulation(context[j]).chunk(2)
        y = self.bns[j](features)
        return y * (1.0 + scale).to(y.dtype) + shift.to(y.dtype)

    @torch.no_grad()
    def for_condition(self, j: int, context: Tensor) -> dict[str, Tensor]:
        """The state of the plain batch norm that equals this norm under condition j in evaluation mode.

        Args:
            j: The condition.
            context: Embeddings (J, 256).
        """
        shift, scale = self.modulation(context[j]).chunk(2)
        state = {name: value.clone() for name, value in self.bns[j].state_dict().items()}
        state["weight"] = state["weight"] * (1.0 + scale)
        state["bias"] = state["bias"] * (1.0 + scale) + shift
        return state


def normalise(norm: nn.Module, x: SparseTensor) -> Tensor:
    """Features of ``x`` after a plain or prompt-driven norm."""
    normalised: Tensor = norm(x) if isinstance(norm, PromptDrivenNorm) else norm(x.features)
    return normalised


def condition_of(names: Sequence[str], known: Sequence[str], context: Tensor) -> Condition:
    """Look up conditions by name.

    Args:
        names: One name for all samples, or one per sample.
        known: The conditions of the net, in its order.
        context: Embeddings (J, 256).

    Raises:
        ValueError: For a name that the net does not have, listing those it has.
    """
    unknown = [name for name in dict.fromkeys(names) if name not in known]
    if unknown or not names:
        asked = f"condition {', '.join(repr(name) for name in unknown)} is unknown" if unknown else "no condition is given"
        raise ValueError(f"{asked}: this net has {', '.join(known)}")
    return Condition(tuple(known.index(name) for name in names), context)

"""Muon, with all matrices of a shape in one product.

Belongs here: making updates orthogonal, many at once. Does not: which parameters are learned that
way, or at what rate (``loop``).

PyTorch's own takes matrix after matrix, whose products are too small to keep even two cores busy.
The updates are the same.
"""

import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor


class Muon(torch.optim.Muon):
    """PyTorch's with Nesterov's momentum and ``adjust_lr_fn="match_rms_adamw"``, and its state."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Change every matrix that has a gradient."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike[matrix.shape].append(matrix)
            for matrices in alike.values():
                self._change(matrices, group)

    def _change(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        gradients: list[Any] = [matrix.grad for matrix in matrices]
        states = [self.state[matrix] for matrix in matrices]
        for state, gradient in zip(states, gradients, strict=True):
            if not state:
                state["momentum_buffer"] = torch.zeros_like(gradient)
        momenta = [state["momentum_buffer"] for state in states]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        wanted = torch._foreach_lerp(gradients, momenta, group["momentum"])
        updates = orthogonal(
            torch.stack([each.bfloat16() for each in wanted]),
            group["ns_coefficients"],
            group["ns_steps"],
            group["eps"],
        )
        torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
        rate = group["lr"] * 0.2 * math.sqrt(max(updates.shape[1:]))
        torch._foreach_add_(matrices, updates.unbind(), alpha=-rate)


def orthogonal(
    matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Tensor:
    """Bring all singular values of ``[n, rows, columns]`` near one, by Newton and Schulz.

    Args:
        matrices: of one shape.
        coefficients: of a matrix X, of X X'X, and of X X'X X'X.
        steps: how often they are applied.
        eps: the least length that a matrix is divided by at first.
    """
    a, b, c = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        # The smaller one of the two products with itself.
        gram = x.mT @ x if tall else x @ x.mT
        change = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, x, change, beta=a) if tall else torch.baddbmm(x, change, x, beta=a)
    return x

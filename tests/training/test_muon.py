"""Muon on many matrices at once, against PyTorch's own."""

import torch
from torch import nn

from fastdino.training.muon import Muon

SHAPES = ((6, 10), (10, 6), (6, 10), (7, 7), (10, 6), (5, 9))


def optimized(make: type[torch.optim.Muon]) -> tuple[list[nn.Parameter], torch.optim.Muon]:
    """What three steps make of matrices, of which one has no gradient."""
    generator = torch.Generator().manual_seed(0)
    matrices = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    optimizer = make(matrices, lr=0.1, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        for matrix in matrices[:-1]:
            matrix.grad = torch.randn(matrix.shape, generator=generator)
        optimizer.step()
    return matrices, optimizer


def test_matrices_of_a_shape_are_changed_together_as_one_by_one() -> None:
    ours, _ = optimized(Muon)
    theirs, _ = optimized(torch.optim.Muon)
    for our, their in zip(ours, theirs, strict=True):
        # The updates are of length 0.2 a number, and in bfloat16.
        torch.testing.assert_close(our, their, rtol=0, atol=0.01)


def test_either_goes_on_where_the_other_was() -> None:
    _, ours = optimized(Muon)
    _, theirs = optimized(torch.optim.Muon)
    ours_state, theirs_state = ours.state_dict(), theirs.state_dict()
    assert ours_state["param_groups"] == theirs_state["param_groups"]
    assert ours_state["state"].keys() == theirs_state["state"].keys()
    for index, state in theirs_state["state"].items():
        assert ours_state["state"][index].keys() == state.keys()
        torch.testing.assert_close(ours_state["state"][index], state)
    Muon(ours.param_groups[0]["params"]).load_state_dict(theirs_state)

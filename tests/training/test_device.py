"""What the device says of itself, and the memory that it computes in."""

import subprocess
import sys

import pytest
import torch

from fastdino.training import device
from fastdino.training.device import autocast, best_device, multiplies_in

# In a process of its own, whose memory stays as it is made here.
AGAIN = """
import resource
import torch
from fastdino.training.device import keep_freed_memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    parts = [torch.ones(250_000) for _ in range(100)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

pages()
given_back = pages()
keep_freed_memory()
pages()
print(given_back, pages())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of GNU's C library")
def test_memory_that_was_used_once_is_not_asked_for_again() -> None:
    command = [sys.executable, "-c", AGAIN]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    given_back, kept = map(int, done.stdout.split())
    assert kept < 0.1 * given_back


def test_no_more_cores_are_computed_on_than_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        monkeypatch.setattr(device, "available_cores", lambda: 64)
        device.use_cores()
        assert torch.get_num_threads() == 3
        monkeypatch.setattr(device, "available_cores", lambda: 2)
        device.use_cores()
        assert torch.get_num_threads() == 2
        device.use_cores(1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_products_are_in_the_precision_that_training_has() -> None:
    device = best_device()
    with autocast(device):
        product = torch.ones(2, 2, device=device) @ torch.ones(2, 2, device=device)
    assert multiplies_in(device) is product.dtype

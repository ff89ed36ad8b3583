"""What the device says of itself, and the memory that it computes in."""

import subprocess
import sys

import pytest
import torch

from fastdino.training.device import autocast, best_device, multiplies_in

# In a process of its own, whose memory stays as it is made here.
AGAIN = """
import resource, sys
import torch
from fastdino.training.device import keep_freed_memory

def use():
    parts = [torch.ones(250_000) for _ in range(100)]

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    use()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "kept":
    keep_freed_memory()
use()
print(pages())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of GNU's C library")
def test_memory_that_was_used_once_is_not_asked_for_again() -> None:
    def pages(way: str) -> int:
        command = [sys.executable, "-c", AGAIN, way]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert pages("kept") < 0.1 * pages("as it is")


def test_products_are_in_the_precision_that_training_has() -> None:
    device = best_device()
    with autocast(device):
        product = torch.ones(2, 2, device=device) @ torch.ones(2, 2, device=device)
    assert multiplies_in(device) is product.dtype

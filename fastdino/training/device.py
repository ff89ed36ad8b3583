"""What there is to compute on.

Belongs here: choosing the device and its cores, naming it, how it multiplies and keeps memory. Does
not: anything that is computed on it.
"""

import contextlib
import ctypes

import torch

from fastdino.core.machine import available_cores

# Of GNU's ``mallopt``, and the most that it takes.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MOST_TRIM, MOST_MMAP = 2**31 - 1, 2**25


def best_device() -> torch.device:
    """The GPU where there is one, the CPU otherwise."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """What a device is called by its maker; for a CPU, how many of its cores PyTorch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"


def autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """bfloat16 where the hardware multiplies it quickly; on other CPUs it would be slower."""
    capabilities = torch.cpu.get_capabilities()
    quick = device.type == "cuda" or bool(
        capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
    )
    return torch.autocast(device.type, torch.bfloat16, enabled=quick)


def multiplies_in(device: torch.device) -> torch.dtype:
    """The precision of matrix products under ``autocast``."""
    one = torch.ones(1, 1, device=device)
    with autocast(device):
        return (one @ one).dtype


def use_cores(cores: int | None = None) -> None:
    """Have PyTorch compute on so many cores; if none are given, on those that this process may use.

    By itself it looks at how many there are, and not at what a container may use of them.
    """
    torch.set_num_threads(cores or min(torch.get_num_threads(), available_cores()))


def keep_freed_memory() -> None:
    """Have this process keep for itself the memory that it frees.

    What a training step frees the next one asks for again. To give it back to the system in between
    is to have every page of it cleared once more, which took a tenth of a step on a CPU. It does
    nothing where the C library is not GNU's.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_THRESHOLD, MOST_MMAP)
        library.mallopt(M_TRIM_THRESHOLD, MOST_TRIM)

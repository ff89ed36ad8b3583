"""What there is to compute on.

Belongs here: choosing the device, naming it, and how it multiplies. Does not: anything that is
computed on it.
"""

import contextlib

import torch


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

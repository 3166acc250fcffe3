"""What every benchmark shares: honest clocks and a line that says on what it ran."""

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch

from mnistviz.learn.checkpoint import versions


def interleaved(repeats: int, **contenders: Callable[[], object]) -> dict[str, list[float]]:
    """Seconds of each contender, A B A B …, so that a slow moment of the machine hits them all."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, call in contenders.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def spread(values: list[float]) -> str:
    """Median with range: `3.91 s (3.88 to 4.20)`."""
    return f"{statistics.median(values):.3g} s ({min(values):.3g} to {max(values):.3g})"


def hardware() -> dict[str, str]:
    """The machine and the versions, beside every number."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": str(psutil.cpu_count(logical=False) or psutil.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "instructions": torch.backends.cpu.get_cpu_capability()
        + (" with bf16" if torch.cpu.get_capabilities().get("avx512_bf16") else ""),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": platform.system(),
        **versions(),
    }

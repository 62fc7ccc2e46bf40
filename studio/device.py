"""What this machine is. Probed once by the composition root and passed down; no heavy library is imported."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Device:
    """The machine as the engines see it.

    Attributes:
        name: processor name as the system tells it.
        cores: cores this process may use.
        memory: bytes of RAM in the machine; told to an engine, what it may take of them. 0 where nobody says.
        accelerator: "auto" (use a GPU where the runtime finds one) or "cpu".
    """

    name: str
    cores: int
    memory: int
    accelerator: str = "auto"


def probe(accelerator: str = "auto") -> Device:
    """Reads the machine's facts. Container limits count: memory is the smaller of RAM and the cgroup's limit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return Device(_processor_name(), cores, min(psutil.virtual_memory().total, _cgroup_limit()), accelerator)


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cgroup_limit() -> int:
    try:
        return int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 2**63

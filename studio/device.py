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
        features: what makes few bits quick on this processor, of "vnni" and "amx" (8-bit products) and "bf16".
    """

    name: str
    cores: int
    memory: int
    accelerator: str = "auto"
    features: frozenset[str] = frozenset()

    def computes(self, precision: str) -> bool:
        """Whether the processor has the arithmetic of a precision, rather than working it out in fp32 more slowly."""
        return precision not in NEEDS or NEEDS[precision] in self.features


# Flags in the system's words -> features.
FLAGS = {
    "avx512_vnni": "vnni", "avx_vnni": "vnni", "amx_int8": "amx", "avx512_bf16": "bf16", "amx_bf16": "bf16",
}  # fmt: skip
NEEDS = {"bf16": "bf16"}  # precision -> the feature without which it is not offered


def probe(accelerator: str = "auto") -> Device:
    """Reads the machine's facts. Container limits count: memory is the smaller of RAM and the cgroup's limit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    memory = min(psutil.virtual_memory().total, _cgroup_limit())
    about = _cpuinfo()
    return Device(processor_name(about), cores, memory, accelerator, features_of(about))


def features_of(cpuinfo: str) -> frozenset[str]:
    """What makes few bits quick, from the text of /proc/cpuinfo; empty where that does not tell."""
    lines = (line.partition(":")[2].split() for line in cpuinfo.splitlines() if line.startswith("flags"))
    return frozenset(FLAGS[flag] for flag in next(lines, []) if flag in FLAGS)


def processor_name(cpuinfo: str) -> str:
    """From the text of /proc/cpuinfo, or as Python tells it."""
    lines = (line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name"))
    return next(lines, "") or platform.processor() or platform.machine()


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""


def _cgroup_limit() -> int:
    try:
        return int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 2**63

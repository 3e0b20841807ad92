"""The cost of solving on a processor core and on a GPU: seconds, joules, euros. Every rate has a source.

The assumptions are those of ``benchmarks/thief_costs.py``, which takes them from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.names import ARGON2ID, SHA256
from modeltoll.puzzle.counter import LADDER, MIN_EVALUATIONS
from modeltoll.puzzle.machine_profile import DEFAULT_PROFILE
from modeltoll.puzzle.puzzle import published_wait

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeltoll.records import Bools, Floats, Integers, MachineProfile

__all__ = [
    "ARGON2ID",
    "CPU_CORE",
    "EURO_PER_KWH",
    "GPU",
    "MACHINES",
    "SHA256",
    "HardwareCost",
    "Machine",
    "gpu_argon2id",
    "gpu_bounds",
    "gpu_cores",
    "hardware_cost",
    "memory_of",
]

EURO_PER_KWH = 0.19  # EU average for non-household consumers, first half of 2025 (Eurostat, nrg_pc_205)

# Published rates of one RTX 4090.
GPU_SHA256 = 21_975.5e6  # hashcat 6.2.6, mode 1400 (gist.github.com/Chick3nman/32e662a5bb63bc4f51b847bb422222fd)
GPU_ARGON2ID = 1667.0  # hashcat, mode 34000, 64 MiB, 3 passes, 1 lane (github.com/hashcat/hashcat/pull/4284)
GPU_MEMORY_KIB = 23 << 20  # of 24 GiB, what a run can use
# Blocks that t passes read and write: 3t - 1 times the memory (tobtu.com/minimum-password-settings).
_THREE_PASSES, _ONE_PASS = 8, 2

_MAX_KIB, _SUSPECTED_KIB = 64 << 10, 256 << 10  # the gateway's defaults


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine's power draw when busy, with its share of memory and cooling, and its rent."""

    name: str
    watts: float
    euro_per_hour: float


CPU_CORE = Machine("core", 10.0, 0.02)
GPU = Machine("card", 450.0, 0.40)  # an RTX 4090 at its board power; rented
MACHINES = (CPU_CORE, GPU)


@dataclass(frozen=True, slots=True)
class HardwareCost:
    """What work costs on one machine. ``euros`` are its rent, which includes electricity."""

    machine: str
    seconds: float
    joules: float
    euros: float


def gpu_bounds(memory_kib: int) -> Mapping[str, float]:
    """The bounds of the GPU's evaluations per second of one pass: by its bandwidth, and by its memory.

    A step over one block of 1 KiB is taken to be as fast as in the published run, which used the whole memory.
    """
    bandwidth = GPU_ARGON2ID * _THREE_PASSES / _ONE_PASS * 65536 / memory_kib
    step = GPU_MEMORY_KIB / 65536 / GPU_ARGON2ID / (3 * 65536)
    fitting = GPU_MEMORY_KIB / memory_kib
    return {"bandwidth": bandwidth, "memory": fitting / (step * memory_kib)}


def gpu_argon2id(memory_kib: int) -> float:
    """The GPU's evaluations per second of argon2id with one pass."""
    return min(gpu_bounds(memory_kib).values())


def memory_of(seconds: Floats, suspected: Bools, profile: MachineProfile = DEFAULT_PROFILE) -> Integers:
    """The memory (rows,), in KiB, of argon2id tolls of ``seconds`` (rows,) reference seconds, with default settings.

    The largest rung of which half the published wait holds enough evaluations, else the lowest; callers under suspicion
    have higher rungs. The stock of precomputed evaluations is taken to be full.
    """
    memory = np.full(len(seconds), LADDER[0], np.int64)
    waits = np.array([published_wait(second, "coarse") for second in seconds.tolist()])
    for rung in LADDER:
        allowed = rung <= np.where(suspected, _SUSPECTED_KIB, _MAX_KIB)
        memory[allowed & (waits / 2 * profile.rate(rung) >= MIN_EVALUATIONS)] = rung
    return memory


def gpu_cores(puzzle: str, seconds: Floats, suspected: Bools, profile: MachineProfile = DEFAULT_PROFILE) -> Floats:
    """How many reference cores the GPU replaces for each toll, (rows,). ``puzzle`` is ARGON2ID or SHA256."""
    if puzzle == SHA256:
        return np.full(len(seconds), GPU_SHA256 / profile.sha256)
    worth = {rung: gpu_argon2id(rung) / profile.rate(rung) for rung in LADDER}
    return np.array([worth[memory] for memory in memory_of(seconds, suspected, profile).tolist()])


def hardware_cost(machine: Machine, seconds: float) -> HardwareCost:
    """The cost of a machine that is busy for ``seconds``."""
    return HardwareCost(machine.name, seconds, seconds * machine.watts, seconds / 3600.0 * machine.euro_per_hour)

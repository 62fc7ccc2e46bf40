"""How much one visitor, and all together, may take, by mode. Whoever lives alone with the studio may fill it.

An owner is who the page says: "local" where all share one library, else an id that a visitor cannot invent. What the
studio brings in itself, like its examples, is "local" everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from studio.config import Mode

MB, GB = 2**20, 2**30
LOCAL = "local"


@dataclass(frozen=True)
class Limits:
    """Sizes in bytes. "Each" is for one owner.

    Attributes:
        jobs_each: unfinished jobs in one lane.
        uploads_each, bytes_each: pictures brought in that are kept, and their bytes and those of masks.
        uploads, bytes: the same of all owners together.
        runs_each: trainings that are kept, at work or not.
        minutes: the whole budget of one training; None: by steps or minutes, as many as a task may name.
        explores: questions to one trained model at once, the one at work counted; explores_each: of one owner in all.
        explore_s: seconds a question may take, waiting included.
        floor: bytes that stay free on the disk.
    """

    jobs_each: int = 1_000_000
    uploads_each: int = 1_000_000
    bytes_each: int = 2**62
    uploads: int = 1_000_000
    bytes: int = 2**62
    runs_each: int = 1_000_000
    minutes: float | None = None
    explores: int = 12
    explores_each: int = 12
    explore_s: float = 600.0
    floor: int = 64 * MB


_PUBLIC = Limits(
    jobs_each=2,
    uploads_each=100,
    bytes_each=500 * MB,
    uploads=5_000,
    bytes=8 * GB,
    runs_each=4,
    minutes=60.0,
    explores=6,
    explores_each=4,
    explore_s=90.0,
    floor=1 * GB,
)

LIMITS: Mapping[Mode, Limits] = {"local": Limits(), "space": _PUBLIC, "kiosk": _PUBLIC}


def turns(waiting: Sequence[tuple[str, str]], served: Sequence[str]) -> list[str]:
    """The order in which waiting jobs are run: one of each owner in turn, who was served longest ago first.

    Args:
        waiting: (job, owner) as they came.
        served: owners whose job was begun, longest ago first.

    Returns: the jobs in order. Those of one owner stay as they came.
    """
    rank = {owner: place for place, owner in enumerate(served)}
    first: dict[str, int] = {}  # who is new comes before all who were served
    rounds: dict[str, int] = {}
    keys = []
    for place, (job, owner) in enumerate(waiting):
        first.setdefault(owner, place - len(waiting))
        turn = rounds[owner] = rounds.get(owner, -1) + 1
        keys.append((turn, rank.get(owner, first[owner]), job))
    return [job for *_, job in sorted(keys, key=lambda key: key[:2])]

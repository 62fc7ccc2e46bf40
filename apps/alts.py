"""What a result's picture shows, in words, for who does not see it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from studio.library import Artifact


def alt(artifact: Artifact, index: int = 0) -> str:
    """The words for picture `index` of a result: "a rocket, picture 2 of 4", "2 × dog, 1 × cat in street.jpg"."""
    words = _WORDS.get(artifact.task.kind, lambda _: artifact.task.kind.capitalize())(artifact)
    count = len(artifact.outputs)
    return f"{words}, picture {index + 1} of {count}" if artifact.task.kind == "generate" and count > 1 else words


def source(artifact: Artifact) -> str:
    name = artifact.parents[0].name if artifact.parents else ""
    return name if name else "a picture"


def detected(artifact: Artifact) -> str:
    counts = Counter(artifact.data.get("labels", ())).most_common()
    found = ", ".join(f"{count} × {label}" for label, count in counts)
    return f"{found if found else 'Nothing found'} in {source(artifact)}"


_WORDS: dict[str, Callable[[Artifact], str]] = {
    "generate": lambda artifact: str(getattr(artifact.task, "prompt", "")) or f"Made from {source(artifact)}",
    "detect": detected,
    "segment": lambda artifact: f"{'Cut-out' if artifact.outputs else 'No segment'} of {source(artifact)}",
}

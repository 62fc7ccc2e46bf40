"""One tree of errors. `message` says what happened, `hint` says what to do about it; both are for the user.

Library errors are translated once, where the library is called (`raise ... from error`).
Anything that is not a StudioError is a bug.
"""

from __future__ import annotations

import re

# What libraries put into their messages for a terminal: colours, and characters that move its cursor.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


class StudioError(Exception):
    """Base of everything the studio tells a user.

    Args:
        message: what happened, one sentence.
        hint: what to do next, one sentence; may be empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        message, hint = _CONTROL.sub("", message), _CONTROL.sub("", hint)
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class InvalidTask(StudioError):
    """A field of a task is missing, out of range or of the wrong type."""


class InvalidImage(StudioError):
    """A file is not a picture that can be decoded within the limits."""


class NotFound(StudioError):
    """A card, job, asset or artifact of that id does not exist."""


class CardError(StudioError):
    """A model card is malformed; names the file and the key."""


class DownloadError(StudioError):
    """A download did not finish; trying again may help."""


class OfflineError(DownloadError):
    """The studio is offline and the file is not on this device."""


class IntegrityError(StudioError):
    """A weight file is missing, truncated or differs from its recorded hash."""


class UnsafeFile(StudioError):
    """A file would run code, or could, and was not opened."""


class OutOfMemory(StudioError):
    """The run does not fit into the memory budget or the machine."""


class DiskFull(StudioError):
    """There is no room to save; nothing was half-written."""


class Unsupported(StudioError):
    """This device, build or model cannot do that."""


class NotAllowed(StudioError):
    """The mode (kiosk, space) or the licence does not allow that."""


class QueueFull(StudioError):
    """As many jobs wait as the queue holds; the HTTP face answers 429."""


class TooSlow(StudioError):
    """An answer took longer than it may in this mode."""


class WorkerDied(StudioError):
    """The process that ran the model ended by itself (killed, out of memory, crashed)."""


class Cancelled(StudioError):
    """The user cancelled; raised by `Report` at the next step."""

    def __init__(self, message: str = "Cancelled.", hint: str = "") -> None:
        super().__init__(message, hint)


def by_name(name: str) -> type[StudioError]:
    """The error class called `name`, so that an error can cross a process border as three strings."""
    found = globals().get(name)
    return found if isinstance(found, type) and issubclass(found, StudioError) else StudioError

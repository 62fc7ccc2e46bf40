"""Imported by the fork server before any worker is forked, so that a torch worker starts in well under a second.

The one module whose import is meant to do something. Only the fork server imports it.
"""

import contextlib

from studio.worker import prepare_environment

prepare_environment()

with contextlib.suppress(ImportError):
    from studio.nets import torchvision_guard

    torchvision_guard.install()
    import segment_anything  # noqa: F401
    import transformers.models.clip.modeling_clip  # noqa: F401

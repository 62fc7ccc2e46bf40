"""What all tests share: no connection leaves this machine, and real weights are found where they are kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.airgap import Airgap

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def airgap() -> Iterator[Airgap]:
    """Connections to other machines fail in every test. Child processes of the studio block them themselves."""
    gap = Airgap()
    gap.close()
    yield gap
    gap.open()


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    """Public weights and pictures that are not part of the project; see tests/README.md."""
    folder = Path(os.environ.get("STUDIO_TEST_WEIGHTS", ROOT.parent / "shared" / "weights"))
    if not (folder / "INDEX.md").exists():
        pytest.skip("real weights are not here; set STUDIO_TEST_WEIGHTS to their folder")
    return folder

import json
import subprocess
import sys

import pytest

from studio.config import ROOT


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_nothing_confirmed_is_lost_when_the_studio_is_killed():
    """The same with 200 kills is a bench: `python -m tests.bench.kills`."""
    command = [sys.executable, "-m", "tests.bench.kills", "--kills", "5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=True)
    found = json.loads(done.stdout)
    assert found["lost"] == []
    assert found["confirmed"]["queued"] > 0
    assert found["unfinished files before and after sweeping"][1] == 0

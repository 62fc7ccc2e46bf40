import subprocess
import sys
import types

import pytest

import app
from studio.config import ROOT


def test_an_interrupt_while_the_libraries_are_read_says_nothing(monkeypatch):
    def interrupted(**_):
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "apps.cli", types.SimpleNamespace(cli=interrupted))
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 130


@pytest.mark.parametrize("command", [["models", "list"], ["serve"], ["train", "autoencoder", "--steps", "1"]])
def test_a_home_that_cannot_be_made_is_one_sentence(tmp_path, command):
    (tmp_path / "file").touch()
    args = [sys.executable, "app.py", "--home", str(tmp_path / "file" / "home"), "--port", "0", *command]
    done = subprocess.run(args, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "cannot be used" in done.stderr
    assert "Traceback" not in done.stderr

"""Errors are words for people."""

import pickle

from studio.errors import IntegrityError


def test_what_a_library_wrote_for_a_terminal_is_not_shown():
    error = IntegrityError("\x1b[1mWeights only\x1b[0m load failed\x07.", "\x1b[31mTry again.\x1b[0m")
    assert str(error) == "Weights only load failed. Try again."
    assert str(pickle.loads(pickle.dumps(error))) == str(error)

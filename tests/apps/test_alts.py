"""What is said of a picture to who does not see it."""

from types import SimpleNamespace

import pytest

from apps.alts import alt


def artifact(kind, *, outputs=1, name="", prompt="", labels=()):
    parents = [SimpleNamespace(name=name)] if name else []
    task = SimpleNamespace(kind=kind, prompt=prompt)
    return SimpleNamespace(task=task, outputs=range(outputs), parents=parents, data={"labels": labels})


@pytest.mark.parametrize(
    ("made", "index", "words"),
    [
        (artifact("generate", prompt="a rocket"), 0, "a rocket"),
        (artifact("generate", prompt="a rocket", outputs=4), 1, "a rocket, picture 2 of 4"),
        (artifact("generate", name="cat.jpg"), 0, "Made from cat.jpg"),
        (artifact("detect", outputs=0, name="street", labels=["cat", "dog", "dog"]), 0, "2 × dog, 1 × cat in street"),
        (artifact("detect", outputs=0), 0, "Nothing found in a picture"),
        (artifact("segment", outputs=3, name="coins"), 0, "Cut-out of coins"),
        (artifact("segment", outputs=0, name="coins"), 0, "No segment of coins"),
    ],
)
def test_a_picture_is_told_by_what_it_shows(made, index, words):
    assert alt(made, index) == words

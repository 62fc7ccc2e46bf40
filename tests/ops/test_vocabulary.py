from studio.ops.vocabulary import advise, nearest

THINGS = ["pizza", "red apple", "rocket", "t-rex", "bus"]


def test_silent_when_a_thing_is_named():
    for prompt in ("a Pizza!", "two rockets", "a red apple, left of a bus", "T-Rex", "three buses", ""):
        assert advise(prompt, THINGS) == ""
    assert advise("anything", []) == ""


def test_suggests_what_is_alike():
    assert advise("a rockt", THINGS) == (
        "This small model knows 5 things, none of which is in the prompt; try 'rocket'."
    )
    assert nearest(["appl"], THINGS)[0] == "red apple"


def test_suggests_something_when_nothing_is_alike():
    assert nearest(["zzzz"], THINGS) == ["pizza", "red apple", "rocket"]
    assert "pizzeria" not in advise("pizzerias", THINGS)

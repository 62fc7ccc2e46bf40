from studio.limits import LIMITS, turns


def test_one_owner_is_served_in_order():
    assert turns([("a", "me"), ("b", "me"), ("c", "me")], []) == ["a", "b", "c"]


def test_owners_take_turns_and_who_is_new_comes_first():
    waiting = [("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("c1", "c"), ("b2", "b")]
    assert turns(waiting, ["b", "a"]) == ["c1", "b1", "a1", "b2", "a2", "a3"]


def test_who_asks_one_by_one_does_not_pass_who_waits():
    assert turns([("a2", "a"), ("b9", "b")], ["a", "b"]) == ["a2", "b9"]


def test_a_public_page_is_bounded_and_ones_own_machine_is_not():
    assert LIMITS["kiosk"].minutes == LIMITS["space"].minutes == 60
    assert LIMITS["local"].minutes is None
    assert LIMITS["space"].bytes_each < LIMITS["space"].bytes < LIMITS["local"].bytes

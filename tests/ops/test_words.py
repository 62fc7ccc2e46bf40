import time

from studio.ops.words import count, listed, number, when


def test_numbers_and_plurals():
    said = [count(n, "picture") for n in (0, 1, 2, 12345)]
    assert said == ["0 pictures", "1 picture", "2 pictures", "12,345 pictures"]
    assert count(1, "class", "classes") == "1 class"
    assert count(3, "class", "classes") == "3 classes"
    assert number(0.12345) == "0.123"


def test_lists():
    assert [listed(list(letters)) for letters in ("", "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]
    assert listed(["a", "b"], "or") == "a or b"


def test_moments_name_their_year_only_where_it_is_another():
    moment = time.mktime((2026, 11, 5, 7, 4, 0, 0, 0, -1))
    assert when(moment, moment + 3600) == "5 Nov 07:04"
    assert when(moment, moment + 86_400 * 400) == "5 Nov 2026 07:04"

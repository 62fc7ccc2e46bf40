import json

import pytest

from studio.config import ROOT
from studio.ops.vocabulary import Vocabulary

THINGS = ["pizza", "red apple", "rocket", "t-rex", "bus", "dog", "strawberry", "gray mouse"]
PLAIN = Vocabulary({"things": THINGS, "colours": ["red", "gray", "white"], "relations": ["left of"]})
TAUGHT = Vocabulary(
    {
        "things": [{"name": name} for name in THINGS],
        "colours": ["red", "gray", "white"],
        "relations": ["left of"],
        "words": {"synonyms": {"puppy": "dog"}, "fillers": ["tiny", "photo of"], "counts": ["two", "2"]},
    }
)


def sentence(prompt, vocabulary=PLAIN):
    advice = vocabulary.advise(prompt)
    return advice.sentence if advice else ""


def prompts(prompt, vocabulary=PLAIN):
    advice = vocabulary.advise(prompt)
    return [one.prompt for one in advice.suggestions] if advice else []


def test_silent_where_every_word_is_known():
    for prompt in ("a Pizza!", "a red apple on a gray background", "T-Rex", "a picture of a bus on red"):
        assert sentence(prompt) == ""
    for prompt in ("two puppies", "a photo of a tiny dog left of a bus", "2 strawberries on a red background"):
        assert sentence(prompt, TAUGHT) == ""


def test_a_model_without_a_list_knows_everything():
    for facts in ({}, {"things": []}, {"things": None, "words": "odd"}, {"words": {"synonyms": ["a"]}}):
        assert Vocabulary(facts).advise("two anything") is None


@pytest.mark.parametrize("prompt", ["three bananas", "two dogs", "gray mice"])
def test_a_plural_is_not_known_to_a_model_that_never_read_one(prompt):
    assert prompt.split()[-1] in sentence(prompt)


def test_a_plural_is_answered_with_its_thing():
    assert prompts("two rockets on a red background") == ["a rocket on a red background"]


def test_a_word_that_is_not_known_is_said_beside_one_that_is():
    assert sentence("a dog playing chess") == "This model does not know 'playing' and 'chess'."
    assert sentence("two dogs playing chess") == (
        "This model does not know 'two', 'dogs', 'playing' and 1 more. It draws 8 things, none of which is named."
    )
    assert sentence("a dog playing chess", TAUGHT) == "This model does not know 'playing' and 'chess'."


def test_a_colour_that_is_not_known_is_said_and_the_nearest_is_offered():
    assert sentence("a dog on a grey background") == "This model does not know 'grey'."
    assert prompts("a dog on a grey background") == ["a dog on a gray background"]
    assert sentence("a pizza on a turquoise background") == "This model does not know 'turquoise'."
    assert prompts("a pizza on a turquoise background") == ["a pizza on a white background"]


def test_two_things_are_one_too_many_for_a_model_of_one():
    assert sentence("a dog left of a bus") == "It draws one thing at a time."
    assert prompts("a dog left of a bus") == ["a dog on a white background", "a bus on a white background"]
    assert "two things at most" in sentence("a dog left of a bus left of a pizza", TAUGHT)


@pytest.mark.parametrize("prompt", ["", "  ", "\U0001f355", "!?"])
def test_a_prompt_without_a_word_says_so(prompt):
    assert sentence(prompt).startswith("There is no word in the prompt.")
    assert prompts(prompt)[0] == "a pizza on a white background"


def test_the_nearest_are_offered_and_otherwise_the_first():
    assert prompts("a rockt") == ["a rocket on a white background"]
    assert prompts("an appl")[0] == "a red apple on a white background"
    assert prompts("dogsledding") == [PLAIN.phrase(name) for name in THINGS[:3]]  # three letters are in too many words
    assert prompts("a rocketship") == ["a rocket on a white background"]
    assert prompts("zzzz") == [PLAIN.phrase(name) for name in THINGS[:3]]
    assert str(PLAIN.advise("a rockt")).endswith("Try 'rocket'.")


def test_what_is_offered_is_known():
    facts = json.loads((ROOT / "models" / "starter-text-to-image" / "facts.json").read_text(encoding="utf-8"))
    starter = Vocabulary(facts)
    for prompt in ("", "three bananas on a white background", "a lighthouse at dusk", "a horse and a grape"):
        for offered in prompts(prompt, starter):
            assert sentence(offered, starter) == ""

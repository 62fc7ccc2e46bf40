"""The page's own pieces reach the page as they were made."""

import gradio as gr
import pytest

from apps.pieces import piece


def test_what_gradio_keeps_for_itself_is_refused():
    """`head` never reached the labs' script, which then quietly did not switch to the training it had begun."""
    with gr.Blocks(), pytest.raises(ValueError, match="head"):
        piece("trainbar", "bar", head="lab-head")


def test_props_go_along():
    with gr.Blocks():
        made = piece("trainbar", "bar", sides="lab-head", label="Train")
    assert made.props["sides"] == "lab-head"
    assert made.props["name"] == "bar"

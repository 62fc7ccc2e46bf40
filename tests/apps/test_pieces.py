"""The page's own pieces reach the page as they were made."""

import gradio as gr

from apps.pieces import piece
from tests.apps.fakes import own


def test_props_go_along_and_none_is_gradios_to_keep_or_to_replace():
    """`head` once never reached the labs' script; and what Gradio holds is lost where a piece is not drawn yet."""
    with gr.Blocks():
        made = piece("trainbar", "bar", head="lab-head", label="Train")
    assert own(made) == {"name": "bar", "head": "lab-head", "label": "Train"}
    assert made.props == {}

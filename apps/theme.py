"""The look, as Gradio's own variables; everything else is in `assets/face/theme.css`.

Both files name the same tokens: `--ink`, `--surface`, `--line`, `--accent`, ... are defined once, in the style sheet,
for light and for dark, and Gradio's variables only point at them.
"""

from __future__ import annotations

from gradio.themes import Base, Font
from gradio.themes.utils import sizes

_SANS = (Font("Inter"), Font("system-ui"), Font("sans-serif"))
_MONO = (Font("ui-monospace"), Font("Menlo"), Font("Consolas"), Font("monospace"))

_POINTERS = {
    "body_background_fill": "var(--page)",
    "body_text_color": "var(--ink)",
    "body_text_color_subdued": "var(--ink-2)",
    "background_fill_primary": "var(--page)",
    "background_fill_secondary": "var(--well)",
    "border_color_primary": "var(--line)",
    "border_color_accent": "var(--accent)",
    "border_color_accent_subdued": "var(--accent)",
    "color_accent": "var(--accent)",
    "color_accent_soft": "var(--accent-soft)",
    "link_text_color": "var(--accent)",
    "link_text_color_hover": "var(--accent)",
    "link_text_color_active": "var(--accent)",
    "link_text_color_visited": "var(--accent)",
    "block_background_fill": "transparent",
    "block_label_background_fill": "transparent",
    "block_label_text_color": "var(--ink-2)",
    "block_title_text_color": "var(--ink-2)",
    "block_info_text_color": "var(--ink-2)",
    "block_border_color": "var(--line)",
    "panel_background_fill": "transparent",
    "panel_border_color": "transparent",
    "input_background_fill": "var(--surface)",
    "input_background_fill_focus": "var(--surface)",
    "input_background_fill_hover": "var(--surface)",
    "input_border_color": "var(--line)",
    "input_border_color_hover": "var(--line-2)",
    "input_border_color_focus": "var(--accent)",
    "input_placeholder_color": "var(--ink-3)",
    "checkbox_background_color": "var(--surface)",
    "checkbox_background_color_selected": "var(--accent)",
    "checkbox_border_color": "var(--line-2)",
    "checkbox_border_color_selected": "var(--accent)",
    "checkbox_label_background_fill": "transparent",
    "checkbox_label_background_fill_hover": "var(--well)",
    "checkbox_label_background_fill_selected": "var(--accent-soft)",
    "checkbox_label_border_color": "var(--line)",
    "checkbox_label_border_color_selected": "var(--accent)",
    "checkbox_label_text_color": "var(--ink)",
    "checkbox_label_text_color_selected": "var(--ink)",
    "slider_color": "var(--accent)",
    "button_primary_background_fill": "var(--accent)",
    "button_primary_background_fill_hover": "var(--accent-2)",
    "button_primary_text_color": "var(--on-accent)",
    "button_primary_text_color_hover": "var(--on-accent)",
    "button_primary_border_color": "transparent",
    "button_secondary_background_fill": "var(--well)",
    "button_secondary_background_fill_hover": "var(--well-2)",
    "button_secondary_text_color": "var(--ink)",
    "button_secondary_border_color": "transparent",
    "table_border_color": "var(--line)",
    "table_even_background_fill": "transparent",
    "table_odd_background_fill": "transparent",
    "error_background_fill": "var(--well)",
    "error_border_color": "var(--line-2)",
    "error_text_color": "var(--ink)",
    "error_icon_color": "var(--ink-2)",
}
_PLAIN = {
    "block_border_width": "0px",
    "block_padding": "0px",
    "block_shadow": "none",
    "block_radius": "8px",
    "block_label_padding": "0px",
    "block_title_padding": "0px",
    "block_title_background_fill": "transparent",
    "block_title_border_width": "0px",
    "block_label_border_width": "0px",
    "block_title_text_weight": "500",
    "block_label_text_weight": "500",
    "block_title_text_size": "13px",
    "block_label_text_size": "13px",
    "block_info_text_size": "13px",
    "body_text_size": "15px",
    "form_gap_width": "0px",
    "layout_gap": "16px",
    "input_padding": "8px 12px",
    "input_radius": "8px",
    "input_text_size": "15px",
    "input_shadow": "none",
    "input_shadow_focus": "0 0 0 1px var(--accent)",
    "input_border_width": "1px",
    "checkbox_shadow": "none",
    "checkbox_border_radius": "4px",
    "button_primary_shadow": "none",
    "button_primary_shadow_hover": "none",
    "button_primary_shadow_active": "none",
    "button_secondary_shadow": "none",
    "button_secondary_shadow_hover": "none",
    "button_secondary_shadow_active": "none",
    "button_large_radius": "8px",
    "button_small_radius": "8px",
    "button_large_text_size": "15px",
    "button_small_text_size": "13px",
    "button_large_text_weight": "500",
    "button_small_text_weight": "500",
    "button_transform_hover": "none",
    "button_transform_active": "none",
    "container_radius": "8px",
}


class StudioTheme(Base):
    """Surfaces by spacing and one faint border; one accent; light and dark from the same tokens."""

    def __init__(self) -> None:
        super().__init__(
            spacing_size=sizes.spacing_md,
            radius_size=sizes.radius_md,
            text_size=sizes.text_md,
            font=_SANS,
            font_mono=_MONO,
        )
        self.name = "studio"
        known = {name for name in vars(self) if not name.startswith("_")}
        both = {**_POINTERS, **_PLAIN}
        # A token is the same expression in both schemes, so no variable has a dark value of its own.
        self.set(**{name: value for name, value in both.items() if name in known})
        for name in [name for name in vars(self) if name.endswith("_dark") and name.removesuffix("_dark") in both]:
            setattr(self, name, both[name.removesuffix("_dark")])


def unknown_names() -> list[str]:
    """Names above that this Gradio does not have; a test keeps it empty."""
    known = vars(Base())
    return sorted(name for name in {**_POINTERS, **_PLAIN} if name not in known)

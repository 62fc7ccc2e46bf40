"""The starter text-to-image model: `python -m studio.starters.text_to_image`."""

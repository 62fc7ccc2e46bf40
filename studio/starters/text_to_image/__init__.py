"""The starter that draws: its words, its scenes, their pictures and the recipe of its weights."""

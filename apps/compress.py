"""Compress: what each precision costs on this machine, and which one to use. The page talks to `apps.compress_data`."""

from __future__ import annotations

import re
from typing import Any

import gradio as gr
from fastapi import APIRouter
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, Field

from apps import pieces
from apps.compress_data import Compression
from apps.turns import Owner
from apps.widgets import Face, on_data
from studio.studio import Studio

Json = dict[str, Any]


def build(face: Face) -> None:
    """The tab."""
    with gr.Column(elem_classes=["page"]):
        piece = pieces.piece("compress", "compress", events=("sent",))

    def wire(desk: gr.Tabs) -> None:
        """From a model's default to the tab that uses it."""
        on_data(piece.sent, lambda data: gr.Tabs(selected=str(data.get("tab"))), outputs=desk)

    face.later.append(wire)


class Ask(BaseModel):
    """What is to be measured."""

    variants: list[str] = Field(max_length=40)
    anyway: bool = False


def add_routes(face: APIRouter, studio: Studio) -> None:
    """Adds them to the page's own routes, under /face."""
    compression = Compression(studio)

    @face.get("/compress")
    def overview() -> Json:
        return compression.overview()

    @face.get("/compress/{id}")
    def comparison(id: str) -> Json:
        return compression.comparison(id)

    @face.post("/compress/{id}/compare")
    def compare(id: str, ask: Ask, owner: Owner) -> Json:
        return {"job": compression.compare(id, ask.variants, owner, anyway=ask.anyway).id}

    @face.post("/compress/{id}/use/{key}")
    def use(id: str, key: str) -> Json:
        compression.use(id, key)
        return compression.comparison(id)

    @face.post("/compress/{id}/undo")
    def undo(id: str) -> Json:
        compression.undo(id)
        return compression.comparison(id)

    @face.get("/compress/{id}/picture/{name}")
    def picture(id: str, name: str) -> Response:
        return FileResponse(
            compression.picture(id, name), media_type="image/png", headers={"Cache-Control": "no-cache"}
        )

    @face.get("/compress/{id}/export/{format}")
    def export(id: str, format: str) -> Response:
        text, media = compression.export(id, format)
        name = re.sub(r"[^A-Za-z0-9-]+", "-", id).strip("-")
        headers = {
            "Content-Disposition": f'attachment; filename="{name}-precisions.{format}"',
            "Cache-Control": "no-store",
        }
        return Response(text, media_type=media, headers=headers)

"""The page is built without a browser; its callbacks are plain functions."""

import json
import subprocess
import sys
import time
from pathlib import Path

import gradio as gr
import numpy as np
import pytest

from apps import generate, library, routes, theme, widgets
from apps.shell import TABS, build
from studio.errors import InvalidTask, NotFound, QueueFull, Unsupported
from studio.ops.pictures import encode_png
from tests.apps.fakes import fake_studio, own

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def studio(tmp_path):
    made = fake_studio(tmp_path)
    made.start()
    yield made
    made.close()


def finished(studio, **fields):
    return list(studio.run("starter", {"prompt": "a rocket", **fields}))[-1]


def test_the_page_has_every_tab_and_no_file_component(studio):
    page = build(studio)
    titles = [block.label for block in page.blocks.values() if isinstance(block, gr.Tab)]
    assert titles == [tab.title for tab in TABS]
    # A component that serves files could be made to serve the wrong ones; ours go by asset id.
    serving = (gr.File, gr.Image, gr.Gallery, gr.UploadButton, gr.DownloadButton, gr.FileExplorer)
    assert not [block for block in page.blocks.values() if isinstance(block, serving)]


def test_what_the_first_model_draws_is_there_before_the_page_has_loaded(studio):
    hints = next(block for block in build(studio).blocks.values() if block.elem_id == "generate-hints")
    assert hints.value == generate.known(studio, "starter")
    assert len(hints.value["things"]) == 4


def test_no_callback_is_an_api_or_waits_in_gradios_queue(studio):
    for fn in build(studio).fns.values():
        assert fn.queue is False
        assert fn.api_visibility == "private"


def test_every_piece_has_a_name_of_its_own_and_a_kind_in_the_scripts(studio):
    scripts = "\n".join((routes.FACE / name).read_text(encoding="utf-8") for name in routes.SCRIPTS)
    pieces = [
        b for b in build(studio).blocks.values() if isinstance(b, gr.HTML) and "studio.mount" in (b.js_on_load or "")
    ]
    names = [own(piece)["name"] for piece in pieces]
    assert len(names) == len(set(names))
    for piece in pieces:
        kind = piece.js_on_load.split('studio.mount("')[1].split('"')[0]
        assert f"studio.kinds.{kind} =" in scripts


def test_theme_names_only_what_gradio_knows():
    assert theme.unknown_names() == []


def test_building_the_page_imports_nothing_heavy(tmp_path):
    code = (
        "import sys, json, pathlib\nfrom tests.apps.fakes import fake_studio\n"
        "from apps.serve import create_app, quiet_gradio\n"
        f"s = fake_studio(pathlib.Path({str(tmp_path)!r})); quiet_gradio(s.config); create_app(s)\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    heavy = {"torch", "torchvision", "diffusers", "transformers", "ultralytics", "onnxruntime", "openvino", "cv2"}
    assert not heavy & set(json.loads(out.strip().splitlines()[-1]))


# ── generate ─────────────────────────────────────────────────────────────────


def test_an_empty_prompt_says_what_to_do():
    with pytest.raises(InvalidTask, match="prompt is empty"):
        generate.task_fields({"prompt": "  ", "image": {}, "mask": {}})
    assert generate.task_fields({"prompt": "", "image": {"id": "a" * 64}, "mask": {}})["image"] == "a" * 64


def test_settings_of_one_picture_of_a_batch(studio):
    artifact = studio.library.get(finished(studio, seed=0, count=3).artifact)
    found = generate.settings(artifact, 2)
    assert (found["seed"], found["count"], found["prompt"]) == (2, 1, "a rocket")


def test_what_a_picture_says_is_taken_within_bounds():
    found = generate.known_fields(
        {"prompt": "x", "steps": 10**9, "seed": 0, "width": 63, "model": "y", "strength": 0.5}
    )
    assert found == {"prompt": "x", "seed": 0, "strength": 0.5}


def test_examples_are_things_the_model_knows(studio):
    assert generate.examples(studio)[0] == "a pizza on a blue background"
    assert len(generate.examples(studio)) == 4


# ── results ──────────────────────────────────────────────────────────────────


def test_a_result_carries_all_that_repeats_it(studio):
    artifact = studio.library.get(finished(studio, seed=0).artifact)
    view = widgets.view(studio, artifact)
    names = dict(view["details"])
    assert (names["Seed"], names["Model"], names["Steps"]) == ("0", "Starter pictures", "20")
    assert view["pictures"][0]["title"] == "Seed 0"
    json.dumps(view)


def test_problems_have_two_sentences_and_bugs_are_calm(caplog):
    shown = widgets.problem(Unsupported("A.", "B."))
    assert (shown["message"], shown["hint"]) == ("A.", "B.")
    assert "Traceback" not in widgets.problem(ZeroDivisionError("x"))["message"]
    assert "a callback failed" in caplog.text


def test_lineage_and_delete_with_undo(studio):
    first = studio.library.get(finished(studio).artifact)
    second = studio.library.get(finished(studio, image=first.outputs[0].id, seed=5).artifact)
    rows = {row["label"]: row["tiles"] for row in library.family(studio, second)}
    assert [tile["artifact"] for tile in rows["Made from"]] == [first.id]
    assert [tile["artifact"] for tile in library.family(studio, first)[0]["tiles"]] == [second.id]
    studio.library.discard(second.id)
    assert [a.id for a in studio.library.list()] == [first.id]
    studio.library.keep(second.id)
    assert len(studio.library.list()) == 2


def test_jobs_say_why_they_failed_and_can_run_again(studio):
    job = finished(studio, prompt="refuse")
    row = library.job_row(studio, studio.jobs.get(job.id))
    assert row["state"] == "failed"
    assert "cannot do that" in row["text"]
    assert row["actions"] == [{"name": "again", "label": "Run again"}]


def test_in_a_space_each_browser_sees_its_own(tmp_path):
    studio = fake_studio(tmp_path, mode="space")
    studio.start()
    try:
        face = widgets.Face(studio)
        job = list(studio.run("starter", {"prompt": "a rocket"}, owner="me"))[-1]
        assert face.artifact(job.artifact, "me").owner == "me"
        with pytest.raises(NotFound):
            face.artifact(job.artifact, "you")
        with pytest.raises(NotFound):
            face.job(job.id, "you")
    finally:
        studio.close()


def test_a_visitor_with_too_many_jobs_hears_which_and_can_cancel_each(tmp_path):
    studio = fake_studio(tmp_path, mode="kiosk")  # not started: both wait
    try:
        face = widgets.Face(studio, gr.BrowserState(""))
        jobs = [studio.submit("starter", {"prompt": prompt}, owner="me") for prompt in ("a rocket", "a pizza")]
        face.admit("you")
        with pytest.raises(QueueFull) as caught:
            face.admit("me")
        shown = widgets.problem(caught.value)
        assert shown["message"] == "Generate “a rocket” and Generate “a pizza” are not finished yet."
        assert [job["id"] for job in shown["jobs"]] == [job.id for job in jobs]
    finally:
        studio.close()


def test_with_the_visitor_their_work_ends_and_nobody_elses(tmp_path):
    studio = fake_studio(tmp_path, pace=0.1, mode="kiosk")
    studio.start()
    try:
        mine, yours = (studio.submit("starter", {"prompt": "a rocket"}, owner=who) for who in ("me", "you"))
        routes.end_visit(studio, "")  # nobody in particular ends nothing
        routes.end_visit(studio, "me")
        with pytest.raises(NotFound):
            studio.jobs.get(mine.id)
        assert list(studio.jobs.watch(yours.id))[-1].state == "done"
    finally:
        studio.close()


def test_a_picture_without_settings_gives_none():
    for text in (None, {}, {"parameters": ""}, {"parameters": " "}, {"Software": "camera"}):
        assert generate.read_settings(text) == {}
    assert generate.read_settings({"parameters": "a rocket\nSteps: 7, Seed: 0"}) == {
        "prompt": "a rocket", "steps": 7, "seed": 0,
    }  # fmt: skip


def test_a_hand_off_only_names_places_that_take_the_kind(studio):
    build(studio)
    mask = studio.library.add_mask(np.ones((4, 4), bool))
    picture = studio.library.add_image(encode_png(np.zeros((4, 4, 3), np.uint8)))
    assert (mask.kind, picture.kind) == ("mask", "image")


def test_running_twice_with_one_seed_gives_the_same_asset(studio):
    one, two = finished(studio, seed=3), finished(studio, seed=3)
    ids = [studio.library.get(job.artifact).outputs[0].id for job in (one, two)]
    assert ids[0] == ids[1]
    assert time.time() - one.created < 60


def test_an_empty_seed_is_drawn_and_zero_is_zero(studio):
    base = {"prompt": "a rocket", "image": {}, "mask": {}}
    assert "seed" not in generate.task_fields({**base, "seed": ""})
    assert studio.submit("starter", generate.task_fields({**base, "seed": "0"})).task.seed == 0
    with pytest.raises(InvalidTask, match="seed"):
        studio.submit("starter", generate.task_fields({**base, "seed": "many"}))


def test_details_are_told_in_words(studio):
    assert widgets._plain([[300.0, 180.0, 1], [2.5, 3.0, 0]]) == "300, 180, 1; 2.5, 3, 0"
    assert (widgets._plain(True), widgets._plain(False)) == ("yes", "no")

import time

import numpy as np
import pytest
from safetensors.numpy import save_file

from studio.engines.base import Result
from studio.errors import InvalidTask, NotAllowed, NotFound, Unsupported
from studio.studio import Studio
from studio.tasks import Detect
from tests.fakes import DEVICE

PICTURE = np.zeros((90, 120, 3), np.uint8)
PICTURE[20:70, 30:90] = (200, 40, 40)


@pytest.fixture
def studio(config):
    studio = Studio(config, DEVICE)
    studio.start()
    yield studio
    studio.close()


def finish(studio, job):
    *_, last = studio.jobs.watch(job.id)
    return last


def test_words_to_picture_to_library(studio):
    job = finish(studio, studio.submit("paced", {"prompt": "a red thing", "seed": 0}))
    assert job.state == "done", job.message
    artifact = studio.library.get(job.artifact)
    assert artifact.task.seed == 0
    assert (artifact.task.steps, artifact.task.width) == (4, 64)  # the card's defaults, made explicit
    assert artifact.outputs[0].path.exists()


def test_the_same_seed_gives_the_same_picture_and_none_draws_one(studio):
    first = finish(studio, studio.submit("paced", {"prompt": "x"}))
    artifact = studio.library.get(first.artifact)
    again = finish(studio, studio.again(artifact))
    assert [a.id for a in studio.library.get(again.artifact).outputs] == [a.id for a in artifact.outputs]
    other = finish(studio, studio.submit("paced", {"prompt": "x"}))
    assert studio.library.get(other.artifact).task.seed != artifact.task.seed


def test_a_result_is_handed_on(studio):
    photo = studio.library.add_image(PICTURE, "photo.png")
    job = finish(studio, studio.submit("classic-grabcut", {"image": photo.id, "box": (20, 10, 100, 80)}))
    assert job.state == "done", job.message
    mask = studio.library.get(job.artifact).outputs[0]
    assert studio.library.mask(mask.id)[45, 60]
    painted = finish(studio, studio.submit("paced", {"prompt": "x", "image": photo.id, "mask": mask.id}))
    ancestors = dict(studio.library.lineage(painted.artifact).parents)
    assert ancestors[mask].artifact.id == job.artifact


def test_a_draft_stays_out_of_the_library(studio):
    job = finish(studio, studio.submit("paced", {"prompt": "x"}, kept=False))
    assert studio.library.list() == []
    studio.library.keep(job.artifact)
    assert len(studio.library.list()) == 1


def test_wrong_requests_are_refused_before_they_are_queued(studio):
    with pytest.raises(NotFound, match="no model 'nobody'"):
        studio.submit("nobody", {})
    with pytest.raises(InvalidTask, match="steps"):
        studio.submit("paced", {"steps": 0})
    with pytest.raises(NotFound, match="picture"):
        studio.submit("classic-faces", {"image": "f" * 64})
    assert studio.jobs.history() == []


def test_a_model_that_nothing_here_can_run_is_offered_nowhere(studio, tmp_path):
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    lora = {f"{name}.lora_down.weight": (4, 768), f"{name}.lora_up.weight": (320, 4)}
    save_file({key: np.zeros(shape, np.float32) for key, shape in lora.items()}, tmp_path / "x.safetensors")
    card = studio.store.add(tmp_path / "x.safetensors")
    assert card in studio.cards("generate")
    assert card not in studio.cards("generate", ready=True)
    assert studio.facts(card.id)["state"]["reason"].startswith("Kept, but nothing here can run it yet: a LoRA")
    with pytest.raises(Unsupported, match="nothing here can run it yet"):
        studio.submit(card.id, {"prompt": "a cat"})


def test_a_failing_job_says_why_and_the_next_works(studio):
    refused = finish(studio, studio.submit("paced", {"prompt": "refuse"}))
    killed = finish(studio, studio.submit("paced", {"prompt": "die"}))
    fine = finish(studio, studio.submit("paced", {"prompt": "fine"}))
    assert (refused.error, killed.error, fine.state) == (Unsupported.__name__, "WorkerDied", "done")
    assert refused.hint
    assert killed.hint


def test_cancel_keeps_nothing(studio):
    job = studio.submit("paced", {"prompt": "slow", "steps": 150})
    for now in studio.jobs.watch(job.id):
        if now.step > 2:
            studio.jobs.cancel(job.id)
    assert now.state == "cancelled"
    assert now.seconds < 10
    assert studio.library.list() == []


def test_status_tells_memory_and_unloading_returns_it(studio):
    finish(studio, studio.submit("paced", {"prompt": "x"}))
    status = studio.status()
    assert list(status.loaded) == ["paced"]
    assert 0 < status.memory < status.budget
    studio.pool.unload_all()
    assert studio.status().memory == 0


@pytest.mark.parametrize(("mode", "allowed"), [("local", True), ("space", False), ("kiosk", False)])
def test_modes_differ_where_it_matters(config, mode, allowed):
    studio = Studio(config.model_copy(update={"mode": mode}), DEVICE)
    assert studio.can("share") is allowed
    assert studio.can("import") is allowed
    assert studio.can("download") is (mode != "kiosk")
    if not allowed:
        with pytest.raises(NotAllowed, match=mode):
            studio.require("import")


@pytest.mark.parametrize(
    ("mode", "days", "left"), [("local", 60, 1), ("space", 6, 1), ("space", 8, 0), ("kiosk", 2, 0)]
)
def test_what_a_public_place_keeps_goes_with_time(config, monkeypatch, mode, days, left):
    studio = Studio(config.model_copy(update={"mode": mode}), DEVICE)
    picture = studio.library.add_image(PICTURE)
    studio.library.add(Detect(image=picture.id), "paced", "", Result())
    today = time.time()
    monkeypatch.setattr("studio.studio.time.time", lambda: today + days * 86_400)
    studio.tidy()
    assert len(studio.library.list()) == left


def test_export_formats_follow_the_kind(studio):
    photo = studio.library.add_image(PICTURE, "photo.png")
    job = finish(studio, studio.submit("classic-grabcut", {"image": photo.id, "box": (20, 10, 100, 80)}))
    (mask,) = studio.export(job.artifact, "mask")
    assert mask.data.startswith(b"\x89PNG")
    assert b"counts" in studio.export(job.artifact, "coco")[0].data
    with pytest.raises(InvalidTask, match="format"):
        studio.export(job.artifact, "psd")
    with pytest.raises(InvalidTask, match="outputs"):
        studio.export(job.artifact, "mask", [99])

import multiprocessing
import threading
import time
import types
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from studio.config import ROOT
from studio.engines.base import Result
from studio.errors import Cancelled, DiskFull, InvalidTask, NotAllowed, NotFound, QueueFull, StudioError, Unsupported
from studio.jobs import Jobs
from studio.limits import LIMITS, Limits
from studio.studio import Studio
from studio.tasks import Detect
from tests.fakes import DEVICE, FullDisk

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
    with pytest.raises(InvalidTask, match="Steps must be at least 1"):
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
    for day in range(1, days + 1):
        monkeypatch.setattr("studio.clock.time.time", lambda day=day: today + day * 86_400)
        studio.tidy()
    assert len(studio.library.list()) == left


def test_a_clock_that_is_wrong_at_the_start_deletes_nothing(config, monkeypatch):
    kiosk = config.model_copy(update={"mode": "kiosk"})
    studio = Studio(kiosk, DEVICE)
    upload, shown = studio.library.add_image(PICTURE, owner="visitor"), studio.library.add_image(PICTURE[:50])
    studio.library.add(Detect(image=shown.id), "paced", "", Result())
    job = studio.jobs.submit(Detect(image=upload.id), "paced", owner="visitor")
    studio.jobs.cancel(job.id)
    today = time.time()
    monkeypatch.setattr("time.time", lambda: today + 400 * 86_400)
    studio = Studio(kiosk, DEVICE)
    studio.tidy()
    assert len(studio.library.list()) == 1
    assert studio.library.asset(upload.id)
    assert [one.id for one in studio.jobs.history()] == [job.id]


# ── questions ────────────────────────────────────────────────────────────────


@pytest.fixture
def few(config, monkeypatch):
    """A studio for strangers that takes few questions, and not for long."""
    limits = Limits(explores=3, explores_each=2, explore_s=1.0)
    monkeypatch.setitem(LIMITS, "space", limits)
    studio = Studio(config.model_copy(update={"mode": "space"}), DEVICE)
    studio.start()
    yield studio
    studio.close()


def ask(studio, results, **fields):
    def run():
        try:
            results.append(studio.explore("paced", "look", {"steps": 5000}, **fields).data["op"])
        except StudioError as error:
            results.append(type(error).__name__)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_question_is_answered(studio):
    assert studio.explore("paced", "look", {"steps": 2}).data == {"op": "look"}
    with pytest.raises(InvalidTask, match="Args"):
        studio.explore("paced", "look", [1])


def test_too_many_questions_are_refused_and_a_long_one_ends(few):
    results = []
    threads = [ask(few, results, owner=f"visitor-{k // 2}") for k in range(9)]
    for thread in threads:
        thread.join(30)
    assert results.count("QueueFull") == 6
    assert set(results) == {"QueueFull", "TooSlow"}
    assert few.explore("paced", "look").data == {"op": "look"}


def test_one_who_asks_too_much_leaves_room_for_others(few):
    results = []
    threads = [ask(few, results, owner="greedy") for _ in range(3)]
    threads[2].join(5)
    assert "QueueFull" in results
    results.clear()
    ask(few, results, owner="other").join(10)
    assert results.count("QueueFull") == 0
    for thread in threads:
        thread.join(30)


def test_a_question_nobody_waits_for_ends(studio):
    gone, results = threading.Event(), []
    thread = ask(studio, results, is_cancelled=gone.is_set)
    while not studio.status().loaded:
        time.sleep(0.01)
    gone.set()
    thread.join(10)
    assert results == ["Cancelled"]


def test_closing_ends_all_who_ask_and_begins_no_worker(config, monkeypatch):
    monkeypatch.setitem(LIMITS, "local", Limits(explores=100, explores_each=100))
    studio, results = Studio(config, DEVICE), []
    studio.start()
    threads = [ask(studio, results) for _ in range(60)]
    while not studio.status().loaded:
        time.sleep(0.01)
    studio.close()
    for thread in threads:
        thread.join(10)
    assert results == ["Cancelled"] * 60
    assert studio.pool.resident() == {}
    assert not [child for child in multiprocessing.active_children() if child.name.startswith("Process")]
    with pytest.raises(Cancelled):
        studio.explore("paced", "look")


# ── owners ───────────────────────────────────────────────────────────────────


@pytest.fixture
def kiosk(config):
    studio = Studio(config.model_copy(update={"mode": "kiosk"}), DEVICE)
    studio.start()
    yield studio
    studio.close()


def test_a_visit_that_ends_leaves_nothing_and_disturbs_nobody(kiosk):
    photo = kiosk.library.add_image(PICTURE, "mine.png", owner="anna")
    done = finish(kiosk, kiosk.submit("paced", {"prompt": "x"}, owner="anna"))
    running = kiosk.submit("paced", {"prompt": "slow", "steps": 150}, owner="anna")
    draft = kiosk.submit("paced", {"prompt": "y"}, owner="anna", kept=False)
    theirs = kiosk.submit("paced", {"prompt": "z"}, owner="ben")
    kiosk.leave("anna")
    assert finish(kiosk, theirs).state == "done"
    assert [artifact.owner for artifact in kiosk.library.list()] == ["ben"]
    assert kiosk.jobs.history(owner="anna") == []
    with pytest.raises(NotFound):
        kiosk.library.asset(photo.id)
    for job in (done, running, draft):
        with pytest.raises(NotFound):
            kiosk.jobs.get(job.id)


def test_at_home_nothing_ends_with_a_visit(studio):
    job = finish(studio, studio.submit("paced", {"prompt": "x"}))
    studio.leave("local")
    assert studio.library.get(job.artifact)


def test_the_status_names_only_what_all_share(studio):
    runs = studio.runs
    run = runs.create(recipe="r", family="paced", title="Secret", owner="anna")
    folder = runs.folder(run.id) / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    studio.explore(run.id, "look", owner="anna")
    studio.explore("paced", "look")
    status = studio.status()
    assert list(status.loaded) == ["paced"]
    assert status.memory > status.loaded["paced"]
    with pytest.raises(NotFound):
        studio.explore(run.id, "look", owner="ben")
    with pytest.raises(NotFound):
        studio.explored(run.id, owner="ben")


# ── the machine ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("place", ["file", "file/home"])
def test_a_home_that_cannot_be_made_is_told_in_words(config, tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(StudioError, match="cannot be used"):
        Studio(config.model_copy(update={"home": tmp_path / place}), DEVICE)


def test_home_and_cache_are_for_their_user_only(config):
    Studio(config, DEVICE)
    assert {path.stat().st_mode & 0o777 for path in (config.home, config.cache)} == {0o700}


def test_a_picture_too_large_for_the_memory_is_refused_before_a_model_is_loaded(config):
    real = config.model_copy(update={"models": ROOT / "models", "memory_mb": 1000})
    studio = Studio(real, replace(DEVICE, accelerator="auto"))
    studio.start()
    job = finish(studio, studio.submit("starter-text-to-image", {"prompt": "x", "width": 2048, "height": 2048}))
    assert (job.state, job.error) == ("failed", "OutOfMemory")
    assert "would fit" in job.hint
    assert studio.pool.resident() == {}
    studio.close()


def test_a_full_disk_costs_a_result_but_neither_the_queue_nor_the_next_one(studio, monkeypatch):
    disk = FullDisk(monkeypatch)
    job = studio.submit("paced", {"prompt": "slow", "steps": 10})
    for now in studio.jobs.watch(job.id):
        if now.step > 1:
            disk.fill()
    assert (now.state, now.error) == ("failed", "DiskFull")
    with pytest.raises(DiskFull):
        studio.library.add_image(PICTURE)
    disk.free()
    assert finish(studio, studio.submit("paced", {"prompt": "next"})).state == "done"
    assert [one.state for one in Jobs(studio.config.home, lambda *_: "").history()] == ["done", "failed"]
    assert len(studio.library.list()) == 1


def test_what_is_swept_at_the_start(config):
    (config.home / "assets").mkdir(parents=True)
    left = config.home / "assets" / ".a.png.999999-1.00.01234567.part"
    left.touch()
    studio = Studio(config, DEVICE)
    studio.start()
    end = time.monotonic() + 20
    while left.exists() and time.monotonic() < end:
        time.sleep(0.01)
    studio.close()
    assert not left.exists()


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


def test_strangers_have_a_share_of_the_queue(kiosk):
    jobs = [kiosk.submit("paced", {"prompt": "slow", "steps": 150}, owner="greedy") for _ in range(2)]
    with pytest.raises(QueueFull, match="2 of your jobs"):
        kiosk.submit("paced", {"prompt": "x"}, owner="greedy")
    theirs = kiosk.submit("paced", {"prompt": "x"}, owner="next")
    assert (theirs.place, kiosk.jobs.get(jobs[1].id).place) in [(1, 2), (0, 1)]
    kiosk.leave("greedy")
    assert finish(kiosk, theirs).state == "done"


def test_no_job_is_taken_without_room_for_its_result(studio, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: types.SimpleNamespace(free=10 * 2**20))
    with pytest.raises(DiskFull, match="stay free"):
        studio.submit("paced", {"prompt": "x"})
    with pytest.raises(DiskFull, match="stay free"):
        studio.library.add_image(PICTURE)
    assert studio.jobs.history() == []


def test_a_studio_starts_on_a_full_disk_and_shows_what_is_there(config, monkeypatch):
    studio = Studio(config, DEVICE)
    studio.start()
    job = finish(studio, studio.submit("paced", {"prompt": "x"}))
    studio.close()
    disk = FullDisk(monkeypatch)
    disk.fill()
    studio = Studio(config, DEVICE)
    studio.start()
    assert studio.library.get(job.artifact).outputs[0].path.exists()
    disk.free()
    assert finish(studio, studio.submit("paced", {"prompt": "y"})).state == "done"
    studio.close()

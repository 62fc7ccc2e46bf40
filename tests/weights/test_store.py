"""Weights on disk: what is here, verified before use, downloaded, imported, kept and given up."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from studio import files
from studio.cards import Card, Source
from studio.config import Config
from studio.errors import Cancelled, DiskFull, IntegrityError, NotAllowed, NotFound, OfflineError, UnsafeFile
from studio.weights.fetch import Hub
from studio.weights.shipped import CHECKSUMS, seal
from studio.weights.store import TRUSTED_S, Store
from studio.weights.variants import PartFile, Variants
from tests.hub import COMMIT, FakeHub
from tests.intake.test_convert import detector

WEIGHTS = os.urandom(400_000)
REPO = "owner/detector"


def make_card(id_="remote", **fields):
    base = {
        "title": id_.title(), "tasks": ("detect",), "engine": "yolo", "licence": "Apache-2.0",
        "size": None, "memory": None, "source": Source(kind="hub", repo=REPO, include=("model.bin8", "config.json")),
    }  # fmt: skip
    return Card(id=id_, **{**base, **fields})


SHIPPED = make_card("shipped", source=Source(kind="builtin", path="shipped"))
REMOTE = make_card()
NONE = make_card("classic", source=Source(kind="none"), engine="classic")


@pytest.fixture
def fake():
    with FakeHub() as hub:
        hub.add(REPO, {"model.bin8": WEIGHTS, "config.json": b"{}", "README.md": b"no" * 300})
        yield hub


@pytest.fixture
def make(tmp_path, fake):
    """Another app on the same disk, each time it is called."""

    def make_store(cards=(SHIPPED, REMOTE, NONE), offline=False):
        models = tmp_path / "models"
        (models / "shipped").mkdir(parents=True, exist_ok=True)
        config = Config(home=tmp_path / "home", cache=tmp_path / "cache", models=models, offline=offline, disk_gb=1)
        hub = Hub(offline=offline, cache=tmp_path / "hf", endpoint=fake.url, pause=0.01)
        return Store(config, {card.id: card for card in cards}, hub)

    return make_store


@pytest.fixture
def store(make):
    return make()


@pytest.fixture
def shipped(tmp_path, store):
    file = tmp_path / "models" / "shipped" / "model.onnx"
    file.write_bytes(WEIGHTS)
    seal(tmp_path / "models")
    return file


def flip(path: Path, keep_time=False) -> None:
    stat = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns if keep_time else stat.st_mtime_ns + 1))


# ── shipped ──────────────────────────────────────────────────────────────────


def test_a_card_without_weights_is_always_ready(store):
    assert store.state(NONE).status == "ready"
    assert store.path(NONE).is_dir()
    assert store.fingerprint(NONE) == ""


def test_shipped_weights_are_hashed_once_and_then_known(store, shipped, monkeypatch):
    assert store.state(SHIPPED).status == "ready"
    assert store.path(SHIPPED) == shipped.parent
    monkeypatch.setattr("studio.weights.records.sha256", lambda *_: pytest.fail("hashed again"))
    store.path(SHIPPED)


def test_one_flipped_bit_in_a_shipped_file_is_found_and_named(store, make, shipped):
    store.path(SHIPPED)
    flip(shipped)
    with pytest.raises(IntegrityError, match=r"models/shipped/model\.onnx is damaged.*Reinstall"):
        store.path(SHIPPED)
    assert make().state(SHIPPED).damaged == "model.onnx"
    flip(shipped)
    assert store.path(SHIPPED) == shipped.parent
    assert store.state(SHIPPED).status == "ready"


def test_one_file_is_verified_without_the_others_and_excuses_none_of_them(store, make, shipped):
    facts = shipped.with_name("facts.json")
    facts.write_text("{}", encoding="utf-8")
    seal(shipped.parent.parent)
    flip(shipped)
    assert store.file(SHIPPED, "facts.json") == facts
    with pytest.raises(IntegrityError):
        store.path(SHIPPED)
    assert store.file(SHIPPED, "facts.json") == facts
    assert make().state(SHIPPED).damaged == "model.onnx"
    flip(facts)
    with pytest.raises(IntegrityError, match=r"facts\.json is damaged"):
        store.file(SHIPPED, "facts.json")
    with pytest.raises(NotFound, match="has no other"):
        store.file(SHIPPED, "other")


def test_verify_finds_what_size_and_time_hide(store, shipped):
    store.path(SHIPPED)
    flip(shipped, keep_time=True)
    store.path(SHIPPED)  # the cheap look cannot see it
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        store.verify(SHIPPED)


def test_what_was_hashed_long_ago_is_hashed_again_when_it_is_loaded(store, make, shipped, monkeypatch):
    store.path(SHIPPED)
    flip(shipped, keep_time=True)
    later = time.time() + TRUSTED_S + 1
    monkeypatch.setattr("studio.weights.store.time.time", lambda: later)
    with pytest.raises(IntegrityError, match=r"model\.onnx is damaged"):
        make().path(SHIPPED)
    flip(shipped, keep_time=True)
    make().path(SHIPPED)
    monkeypatch.setattr("studio.weights.records.sha256", lambda *_: pytest.fail("hashed again"))
    make().path(SHIPPED)


def test_a_truncated_or_missing_shipped_file_is_seen_without_hashing(store, shipped):
    shipped.write_bytes(WEIGHTS[:-1])
    assert store.state(SHIPPED).status == "damaged"
    shipped.unlink()
    (shipped.parent / "other").touch()
    with pytest.raises(IntegrityError, match=r"model\.onnx is missing"):
        store.path(SHIPPED)
    shutil.rmtree(shipped.parent)
    assert store.state(SHIPPED).status == "absent"
    with pytest.raises(NotFound, match="models/shipped is missing"):
        store.path(SHIPPED)


def test_new_checksums_after_an_update_are_obeyed(store, shipped, tmp_path):
    store.path(SHIPPED)
    before = store.fingerprint(SHIPPED)
    shipped.write_bytes(WEIGHTS[::-1])
    seal(tmp_path / "models")
    store.path(SHIPPED)
    assert store.fingerprint(SHIPPED) != before
    assert (tmp_path / "models" / CHECKSUMS).read_text().count("sha256") == 1


# ── download ─────────────────────────────────────────────────────────────────


def test_the_size_and_licence_are_known_before_the_start(store, fake):
    plan = store.plan(REMOTE)
    assert plan.bytes == plan.missing == len(WEIGHTS) + 2
    assert (plan.licence, plan.gated, plan.revision) == ("mit", False, COMMIT)
    assert store.state(REMOTE).status == "absent"
    assert not any("resolve" in path for _, path, _ in fake.requests)


def test_a_download_reports_bytes_and_is_then_complete_offline(store, make):
    seen = []
    folder = store.pull(REMOTE, lambda *values: seen.append(values))
    assert (folder / "model.bin8").read_bytes() == WEIGHTS
    assert seen[-1][:2] == (len(WEIGHTS) + 2, len(WEIGHTS) + 2)
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    state = store.state(REMOTE)
    assert (state.status, state.offline, state.revision, state.size) == ("ready", True, COMMIT, len(WEIGHTS) + 2)
    assert make(offline=True).path(REMOTE) == folder
    assert make(offline=True).pull(REMOTE) == folder
    plan = make(offline=True).plan(REMOTE)
    assert (plan.bytes, plan.missing) == (len(WEIGHTS) + 2, 0)


def test_a_cancelled_download_is_partial_and_goes_on(store, fake):
    def stop(done, *_):
        if done > 100_000:
            raise Cancelled

    with pytest.raises(Cancelled):
        store.pull(REMOTE, stop)
    assert store.state(REMOTE).status == "partial"
    assert 0 < store.plan(REMOTE).missing < len(WEIGHTS)
    with pytest.raises(NotFound, match="only partly"):
        store.path(REMOTE)
    store.pull(REMOTE)
    assert store.state(REMOTE).status == "ready"


def test_offline_is_said_at_once(make, fake):
    store = make(offline=True)
    for call in (store.path, store.plan, store.pull):
        with pytest.raises(OfflineError, match="offline"):
            call(REMOTE)
    assert fake.requests == []


def test_a_flipped_bit_in_the_cache_is_found_and_mended_by_a_new_download(store):
    folder = store.pull(REMOTE)
    flip((folder / "model.bin8").resolve())
    with pytest.raises(IntegrityError, match=r"model\.bin8 is damaged.*Download it again"):
        store.path(REMOTE)
    assert store.state(REMOTE).status == "damaged"
    store.pull(REMOTE)
    assert (store.path(REMOTE) / "model.bin8").read_bytes() == WEIGHTS
    assert store.state(REMOTE).status == "ready"


def test_a_published_hash_that_differs_stops_before_the_first_byte(make, fake):
    card = make_card(sha256={"model.bin8": "0" * 64})
    with pytest.raises(IntegrityError, match="offers another"):
        make((card,)).pull(card)
    assert not any("resolve" in path for _, path, _ in fake.requests)


def test_no_room_is_said_before_the_first_byte(store, fake, monkeypatch):
    monkeypatch.setattr("studio.weights.pull.free_bytes", lambda _: 1000)
    with pytest.raises(DiskFull, match="needs 0 MB beside the 67 MB that stay free"):
        store.pull(REMOTE)
    assert not any("resolve" in path for _, path, _ in fake.requests)


def test_an_import_leaves_room_on_the_disk(store, tmp_path, monkeypatch):
    file = sam_file(tmp_path / "sam.safetensors")
    monkeypatch.setattr("studio.weights.pull.free_bytes", lambda _: file.stat().st_size + 2**20)
    with pytest.raises(DiskFull, match=r"sam\.safetensors needs .* MB beside the 67 MB that stay free"):
        store.add(file)
    assert [card for card in store.cards().values() if card.source.kind == "imported"] == []


def test_a_pickle_in_a_repository_never_becomes_ready(make, fake):
    fake.add(REPO, {"model.bin8": b"\x80\x02cos\nsystem\n" + b"x" * 300, "config.json": b"{}"})
    store = make()
    with pytest.raises(UnsafeFile, match=r"model\.bin8"):
        store.pull(REMOTE)
    assert store.state(REMOTE).status == "partial"


def test_files_that_another_program_brought_are_used_but_never_evicted(make, store):
    from huggingface_hub import hf_hub_download

    hub = store._hub
    for name in ("model.bin8", "config.json"):
        hf_hub_download(REPO, name, cache_dir=hub.cache, endpoint=hub.endpoint)
    other = make(offline=True)
    assert other.state(REMOTE).status == "ready"
    assert (other.path(REMOTE) / "model.bin8").read_bytes() == WEIGHTS
    assert other.evict(0) == ()
    flip((other.path(REMOTE) / "config.json").resolve())
    with pytest.raises(IntegrityError, match=r"config\.json"):
        other.path(REMOTE)


def test_a_checkpoint_that_must_be_converted_is_kept_only_as_a_safe_file(make, fake, tmp_path):
    data = detector(
        tmp_path / "m.onnx"
    ).read_bytes()  # what it is tells its content; a pickle would cost a torch import
    fake.add("o/yolo", {"yolo.pt": data})
    source = Source(kind="hub", repo="o/yolo", include=("yolo.pt",))
    card = make_card("yolo", source=source, options={"convert": "ultralytics"})
    store = make((card,))
    folder = store.pull(card)
    assert [path.name for path in folder.iterdir()] == ["model.onnx"]
    assert (store.state(card).status, store.state(card).revision) == ("ready", COMMIT)
    assert not list((tmp_path / "hf").rglob("*.pt"))
    assert make((card,), offline=True).path(card) == folder
    assert store.pull(card) == folder
    flip(folder / "model.onnx")
    with pytest.raises(IntegrityError, match=r"yolo/model\.onnx"):
        store.path(card)
    store.pull(card)
    store.path(card)
    assert store.evict(0)[0].card == "yolo"
    assert not folder.exists()


def test_two_apps_that_pull_at_once_download_once(make, fake):
    errors = []

    def work():
        try:
            make().pull(REMOTE)
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sum(path.endswith("model.bin8") for _, path, _ in fake.requests) == 1


def test_a_record_that_cannot_be_read_is_made_anew(make, store, tmp_path):
    store.pull(REMOTE)
    (tmp_path / "home" / "store" / "remote.json").write_text("{half")
    assert make(offline=True).path(REMOTE)


# ── keep and give up ─────────────────────────────────────────────────────────


def test_eviction_takes_the_least_recently_used_and_spares_the_pinned(make, fake):
    cards = []
    for number in range(3):
        fake.add(f"o/m{number}", {"model.bin8": os.urandom(50_000)})
        cards.append(make_card(f"m{number}", source=Source(kind="hub", repo=f"o/m{number}", include=("*.bin8",))))
    store = make(cards)
    for card in cards:
        store.pull(card)
    store.touch(cards[0])
    store.pin(cards[1])
    assert [gone.card for gone in store.evict(100_000)] == ["m2"]
    assert store.state(cards[2]).status == "absent"
    assert [gone.card for gone in store.evict(0, keep=("m0",))] == []
    assert [(gone.card, gone.bytes) for gone in store.evict(0)] == [("m0", 50_000)]
    assert store.state(cards[1]).pinned
    store.unpin(cards[1])
    assert [gone.card for gone in store.evict(0)] == ["m1"]
    assert store.usage().hub == 0


def test_removing_a_model_keeps_what_another_card_of_the_repository_uses(make):
    small = make_card("small", source=Source(kind="hub", repo=REPO, include=("config.json",)))
    store = make((REMOTE, small))
    store.pull(REMOTE)
    store.pull(small)
    assert store.remove(REMOTE) == len(WEIGHTS)
    assert store.state(REMOTE).status == "absent"
    assert (store.path(small) / "config.json").read_bytes() == b"{}"


def test_a_partial_download_can_be_given_up(store):
    with pytest.raises(Cancelled):
        store.pull(REMOTE, lambda done, *_: (_ for _ in ()).throw(Cancelled) if done > 100_000 else None)
    assert store.remove(REMOTE) > 0
    assert store.state(REMOTE).status == "absent"
    assert store.state(REMOTE).size == 0


def test_shipped_models_stay(store, shipped):
    with pytest.raises(NotAllowed):
        store.remove(SHIPPED)
    assert store.evict(0) == ()
    with pytest.raises(NotFound, match="not on this device"):
        store.pin(REMOTE)


def test_usage_counts_by_origin(store, shipped):
    store.pull(REMOTE)
    usage = store.usage()
    assert (usage.builtin, usage.hub, usage.imported) == (len(WEIGHTS), len(WEIGHTS) + 2, 0)
    assert usage.evictable == len(WEIGHTS) + 2
    assert usage.free > 0


def converted(store, card_id, key="weights"):
    """A variant that was made of a model: 1000 bytes."""
    variants = Variants(store._config.home)
    with variants.stage(card_id, key, "onnxruntime-fp16") as stage:
        (stage / "network.onnx").write_bytes(bytes(1000))
        variants.describe(stage, "onnxruntime-fp16", {"network": PartFile("network.onnx", "onnxruntime", "fp16")})
    return variants


def test_variants_go_with_their_model(store, tmp_path):
    card = store.add(sam_file(tmp_path / "sam.safetensors"))
    variants = converted(store, card.id)
    assert store.usage().variants == 1000
    size = store.state(card).size
    assert store.remove(card) == size + 1000
    assert variants.found(card.id, "weights") == []
    assert store.usage().variants == 0


def test_variants_of_a_download_count_against_the_budget(store):
    store.pull(REMOTE)
    variants = converted(store, REMOTE.id)
    size = store.state(REMOTE).size
    assert store.usage().evictable == size + 1000
    assert store.evict(size + 1000) == ()
    assert [one.bytes for one in store.evict(size)] == [size + 1000]
    assert variants.found(REMOTE.id, "weights") == []


def test_variants_of_earlier_weights_go_when_others_are_made(store):
    variants = converted(store, "small", "old")
    converted(store, "small", "new")
    assert variants.found("small", "old") == []
    assert len(variants.found("small", "new")) == 1


# ── import ───────────────────────────────────────────────────────────────────


def sam_file(path: Path, seed=0) -> Path:
    rng = np.random.default_rng(seed)
    tensors = {
        "image_encoder.patch_embed.proj.weight": rng.random((768, 3, 1, 1), np.float32),
        "prompt_encoder.point.weight": np.zeros(4, np.float32),
        "mask_decoder.iou_token.weight": np.zeros(4, np.float32),
    }
    save_file(tensors, path)
    return path


def test_what_nothing_here_can_run_is_kept_and_says_so(store, tmp_path):
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    lora = {f"{name}.lora_down.weight": (4, 768), f"{name}.lora_up.weight": (320, 4)}
    first = {"model.diffusion_model.input_blocks.0.0.weight": (4, 4, 3, 3), "cond_stage_model.transformer.x": (1,)}
    for title, shapes in {"lora": lora, "checkpoint": first}.items():
        save_file(
            {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}, tmp_path / f"{title}.safetensors"
        )
        state = store.state(store.add(tmp_path / f"{title}.safetensors"))
        assert state.status == "unusable"
        assert state.offline
        assert state.reason.startswith("Kept, but nothing here can run it yet: a ")
    assert store.add(tmp_path / "lora.safetensors").id == "lora"  # the same file again is the same model
    with_config = store.cards()["checkpoint"].model_copy(update={"options": {"layout": "single-file", "config": "x"}})
    assert store.state(with_config).status == "ready"


def test_an_import_is_listed_here_and_in_the_next_run(store, make, tmp_path):
    card = store.add(sam_file(tmp_path / "My SAM.safetensors"), licence="Apache-2.0")
    assert (card.id, card.engine, card.tasks) == ("my-sam", "sam", ("segment",))
    assert card.options["architecture"] == "vit_b"
    assert make().cards()["my-sam"] == card
    assert [path.name for path in make().path(card).iterdir() if path.suffix == ".safetensors"] == ["model.safetensors"]
    assert make().usage().imported == card.size


def test_the_same_file_twice_is_one_model_and_another_of_the_name_a_second(store, tmp_path):
    first = store.add(sam_file(tmp_path / "sam.safetensors"))
    assert store.add(sam_file(tmp_path / "sam.safetensors")) == first
    assert store.add(sam_file(tmp_path / "sam.safetensors", seed=1)).id == "sam-2"


def test_a_lost_record_of_an_import_is_no_loss(store, make, tmp_path):
    card = store.add(sam_file(tmp_path / "sam.safetensors"))
    (tmp_path / "home" / "store" / "sam.json").unlink()
    folder = make().path(card)
    flip(folder / "model.safetensors")
    with pytest.raises(IntegrityError, match=r"sam/model\.safetensors is damaged.*import it again"):
        make().path(card)


def test_a_refused_or_cancelled_import_leaves_nothing(store, tmp_path):
    (tmp_path / "bad.pth").write_bytes(b"\x80\x02cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(UnsafeFile, match=r"os\.system"):
        store.add(tmp_path / "bad.pth")

    def stop():
        raise Cancelled

    with pytest.raises(Cancelled):
        store.add(sam_file(tmp_path / "sam.safetensors"), tick=stop)
    assert store.cards().keys() == {"shipped", "remote", "classic"}
    assert list((tmp_path / "home" / "models").glob("*")) == []


def test_different_files_imported_at_once_under_one_name_are_all_kept(make, tmp_path):
    for number in range(8):
        (tmp_path / f"folder-{number}").mkdir()
    sources = [sam_file(tmp_path / f"folder-{number}" / "race.safetensors", number) for number in range(8)]
    store, found = make(), {}

    def bring(number):
        found[number] = store.add(sources[number])

    threads = [threading.Thread(target=bring, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {card.id for card in found.values()} == {"race", *(f"race-{number}" for number in range(2, 9))}
    fresh = make()
    for number, card in found.items():
        assert (fresh.path(card) / "model.safetensors").read_bytes() == sources[number].read_bytes()


def test_the_same_file_imported_at_once_is_one_model(make, tmp_path):
    source = sam_file(tmp_path / "same.safetensors")
    store, found = make(), []
    threads = [threading.Thread(target=lambda: found.append(store.add(source).id)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["same"] * 4


def test_a_broken_card_of_an_import_does_not_stop_the_others(store, make, tmp_path):
    store.add(sam_file(tmp_path / "sam.safetensors"))
    (tmp_path / "home" / "models" / "broken").mkdir()
    (tmp_path / "home" / "models" / "broken" / "card.toml").write_text("[broken]\ntitle = 1\n")
    assert "sam" in make().cards()
    assert "broken" not in make().cards()


def test_an_import_can_be_removed(store, tmp_path):
    card = store.add(sam_file(tmp_path / "sam.safetensors"))
    assert store.evict(0) == ()
    assert store.remove(card) == card.size
    assert card.id not in store.cards()
    assert list((tmp_path / "home" / "models").glob("*")) == []


def test_a_folder_that_a_killed_import_left_is_never_listed(store, make, tmp_path):
    left = store.stage()
    sam_file(left / "model.safetensors")
    assert make().cards().keys() == {"shipped", "remote", "classic"}
    stages = make().stage()
    left = left.rename(left.with_name(left.name.replace(f".{os.getpid()}-", ".999999-")))
    files.sweep(tmp_path / "home")
    assert not left.exists()
    assert stages.exists()


def test_a_disk_that_fills_during_an_import_leaves_nothing(store, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    source = sam_file(tmp_path / "sam.safetensors")
    monkeypatch.setattr("studio.intake.convert.os.fsync", full)
    with pytest.raises(DiskFull):
        store.add(source)
    assert list((tmp_path / "home" / "models").glob("*")) == []


def test_the_page_process_stays_light():
    code = (
        "import sys, studio.weights.store, studio.weights.packs\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & "
        "{'torch', 'onnx', 'onnxruntime', 'diffusers', 'transformers', 'huggingface_hub', 'gguf', 'safetensors'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

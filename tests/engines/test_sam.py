"""The SAM engine on a tiny random network: prompts, the embedding's cache, cancel, and files that are wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from studio.cards import Card, Source
from studio.compress.networks import Place
from studio.device import Device
from studio.engines import sam_weights
from studio.engines.embeddings import Embedding, EmbeddingCache
from studio.engines.sam import SamEngine
from studio.errors import Cancelled, IntegrityError, InvalidTask, OutOfMemory, Unsupported
from studio.nets.sam import CONFIGS, STARTER, build_sam
from studio.tasks import Detect, Segment
from tests.fakes import FakeReport

TINY: dict[str, Any] = {
    **STARTER,
    "encoder": {"kind": "pyramid", "widths": [8, 8, 16, 16], "depths": [1, 1, 1], "heads": 2, "mlp_ratio": 2.0},
    "image_size": 64,
    "prompt_dim": 32,
    "decoder": {**STARTER["decoder"], "depth": 1, "mlp_dim": 32, "heads": 2, "iou_depth": 2, "iou_dim": 32},
}
PICTURE = "a" * 64
OTHER = "b" * 64
WIDTH, HEIGHT = 90, 60


def card(**options: Any) -> Card:
    return Card(
        id="tiny-sam",
        title="Tiny SAM",
        tasks=("segment",),
        engine="sam",
        licence="Apache-2.0",
        source=Source(kind="builtin"),
        options=options,
    )


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """The tiny network is quickest so, and stays quick on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-sam")
    torch.manual_seed(0)
    model = build_sam(TINY)
    for norm in (module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.running_var.fill_(0.02)  # a fresh network's signal fades; let the picture through
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(TINY))
    return folder


@pytest.fixture
def engine(folder: Path) -> SamEngine:
    return make(folder)


def make(folder: Path, **options: Any) -> SamEngine:
    return SamEngine(card(**options), folder, Device("test", 2, 2**33, "cpu"))


@pytest.fixture
def report(tmp_path: Path) -> FakeReport:
    return new_report(tmp_path)


def new_report(cache: Path, cancel_after: int | None = None) -> FakeReport:
    rng = np.random.default_rng(1)
    images = {id_: rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8) for id_ in (PICTURE, OTHER)}
    return FakeReport(images, cache, cancel_after)


def click(*points: tuple[float, float, int], **fields: Any) -> Segment:
    return Segment(image=PICTURE, points=points, **fields)


def count_encodings(engine: SamEngine) -> list[int]:
    """A list that grows by one with each run of the image encoder."""
    calls: list[int] = []
    engine._net.model.image_encoder.register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize(
    "task",
    [
        click((30, 20, 1)),
        click((30, 20, 1), (50, 50, 0)),
        click(box=(10, 10, 50, 40)),
        click((30, 20, 1), (80, 50, 0), box=(10, 10, 50, 40)),
        click((20, 20, 0), box=(10, 10, 50, 40)),
        click((0, 0, 1)),
        click(box=(-20, -20, 500, 500)),
    ],
)
def test_a_prompt_gives_three_masks_best_first(engine, report, task):
    result = engine.run(task, report)
    assert len(result.masks) == 3
    assert all(mask.shape == (HEIGHT, WIDTH) and mask.dtype == np.bool_ for mask in result.masks)
    data = result.data
    assert (data["width"], data["height"]) == (WIDTH, HEIGHT)
    assert data["scores"] == sorted(data["scores"], reverse=True)
    assert data["areas"] == [mask.sum() for mask in result.masks]
    assert len(data["boxes"]) == 3
    assert set(data["seconds"]) == {"embedding", "decode"}
    assert json.loads(json.dumps(dict(data))) == data
    assert [phase for _, _, phase in report.steps] == ["encoding picture", "decoding", "decoding"]


def test_a_mask_of_one_pixel_never_comes_first(folder, report, monkeypatch):
    empty, dot, whole = (np.zeros((HEIGHT, WIDTH), bool) for _ in range(3))
    dot[20, 30] = True
    whole[10:40, 20:60] = True
    answers = iter([dot, whole, empty])
    monkeypatch.setattr("studio.engines.sam.ThreadPoolExecutor", InOrder)
    monkeypatch.setattr("studio.engines.sam.cut_out", lambda *_, **__: next(answers))
    data = make(folder, refine=True).run(Segment(image=PICTURE, box=(10, 10, 70, 50)), report).data
    assert data["areas"] == [1200, 1, 0]
    assert data["scores"][1] >= data["scores"][2]


class InOrder:
    """A pool of threads that is none."""

    def __init__(self, _count: int) -> None:
        self.map = map

    def __enter__(self) -> InOrder:
        return self

    def __exit__(self, *_: object) -> None: ...


def test_masks_are_those_of_the_published_predictor(engine, report, monkeypatch):
    from segment_anything import SamPredictor

    result = engine.run(click((30, 20, 1)), report)
    predictor = SamPredictor(engine._net.model)
    predictor.set_image(report.asset(PICTURE))
    theirs, scores, _ = predictor.predict(np.array([[30, 20]]), np.array([1]), multimask_output=True)
    order = np.argsort(-scores)
    assert result.data["scores"] == pytest.approx(scores[order].tolist(), abs=0.01)
    for mine, wanted in zip(result.masks, theirs[order], strict=True):
        assert (mine != wanted).mean() < 0.02  # the kept embedding is float16


def test_the_prompt_matters(engine, report):
    results = [
        engine.run(task, report)
        for task in (click((5, 5, 1)), click((80, 50, 1)), click((5, 5, 1), (80, 50, 0)), click(box=(0, 0, 20, 20)))
    ]
    found = {tuple(result.data["scores"]) for result in results}
    assert len(found) == 4


def test_a_picture_is_encoded_once(engine, report):
    calls = count_encodings(engine)
    first = engine.run(click((30, 20, 1)), report)
    again = engine.run(click((30, 20, 1)), report)
    assert (len(calls), first.data["embedding_cached"], again.data["embedding_cached"]) == (1, False, True)
    assert all((a == b).all() for a, b in zip(first.masks, again.masks, strict=True))
    engine.run(Segment(image=OTHER, points=((1, 1, 1),)), report)
    assert len(calls) == 2


def test_the_embedding_outlives_the_engine(folder, engine, report):
    first = engine.run(click((30, 20, 1)), report)
    engine.close()
    later = make(folder)
    calls = count_encodings(later)
    second = later.run(click((30, 20, 1)), report)
    assert (len(calls), second.data["embedding_cached"]) == (0, True)
    assert all((a == b).all() for a, b in zip(first.masks, second.masks, strict=True))


def test_other_weights_do_not_share_the_embedding(tmp_path, folder, engine, report):
    engine.run(click((30, 20, 1)), report)
    weights = build_sam(TINY).state_dict()
    other = tmp_path / "other"
    other.mkdir()
    save_file(weights, other / "model.safetensors")
    (other / "config.json").write_text(json.dumps(TINY))
    assert make(other).run(click((30, 20, 1)), report).data["embedding_cached"] is False


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: b"PK" + data[2:40],
        lambda data: data[:600] + bytes([data[600] ^ 1]) + data[601:],  # one bit within the numbers
        lambda data: b"not a file of ours",
    ],
)
def test_a_damaged_embedding_is_computed_again(folder, tmp_path, report, damage: Callable[[bytes], bytes]):
    first = make(folder).run(click((30, 20, 1)), report)
    (file,) = (tmp_path / "embeddings").iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    second = make(folder).run(click((30, 20, 1)), report)
    assert second.data["embedding_cached"] is False
    assert all((a == b).all() for a, b in zip(first.masks, second.masks, strict=True))
    assert len(file.read_bytes()) == len(whole)


def test_a_cache_that_cannot_be_written_is_no_error(engine, report, tmp_path):
    report.cache = tmp_path / "file"
    report.cache.write_text("in the way")
    assert engine.run(click((30, 20, 1)), report).data["embedding_cached"] is False


def test_the_cache_is_bounded_and_keeps_what_was_used_last(tmp_path):
    import os

    cache = EmbeddingCache(tmp_path, max_files=3)
    embedding = Embedding(np.zeros((2, 3, 4), np.float16), 30, 40)
    for age, key in enumerate("abc"):
        cache.write(key, embedding)
        os.utime(tmp_path / f"{key}.embedding.npz", (age, age))
    assert cache.read("a", 2) is not None  # now the newest
    cache.write("d", embedding)
    assert [cache.read(key, 2) is not None for key in "abcd"] == [True, False, True, True]
    assert cache.read("a", 5) is None
    EmbeddingCache(tmp_path, max_bytes=1).write("e", embedding)
    assert [file.name for file in tmp_path.iterdir()] == ["e.embedding.npz"]


def test_everything_finds_distinct_segments_largest_first(folder, report):
    engine = make(folder, min_score=-10, min_stability=0.0, max_overlap=0.7)
    result = engine.run(Segment(image=PICTURE, everything=True, points_per_side=6, min_area=30), report)
    areas = result.data["areas"]
    assert areas
    assert areas == sorted(areas, reverse=True)
    assert min(areas) >= 30
    assert len(areas) == len(result.data["scores"]) == len(result.data["boxes"])
    steps = [step for step, _, _ in report.steps[1:]]
    assert steps == sorted(steps)  # encoding counts by itself
    assert report.steps[-1][0] == report.steps[-1][1]


def test_everything_may_find_nothing(folder, report):
    result = make(folder, min_score=1e9).run(Segment(image=PICTURE, everything=True, points_per_side=4), report)
    assert result.masks == ()
    assert result.data["boxes"] == []


@pytest.mark.parametrize("cancel_after", [0, 1])
@pytest.mark.parametrize("task", [click((30, 20, 1)), Segment(image=PICTURE, everything=True)])
def test_cancel_stops_between_phases_and_the_engine_lives_on(engine, tmp_path, cancel_after, task):
    with pytest.raises(Cancelled):
        engine.run(task, new_report(tmp_path, cancel_after))
    result = engine.run(click((30, 20, 1)), new_report(tmp_path))
    assert len(result.masks) == 3
    assert result.data["embedding_cached"] is (cancel_after == 1)  # what was computed is kept


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (Segment(image=PICTURE), "Click on the thing, draw a box, or choose everything"),
        (click((30, 20, 0)), "Add a click on the thing"),
        (click((WIDTH, 20, 1)), f"{WIDTH} × {HEIGHT}"),
        (click((30, -1, 1)), f"{WIDTH} × {HEIGHT}"),
        (click(box=(WIDTH, 0, WIDTH + 9, 9)), f"{WIDTH} × {HEIGHT}"),
    ],
)
def test_prompts_that_mark_nothing_are_refused(engine, report, task, words):
    with pytest.raises(InvalidTask, match=words):
        engine.run(task, report)


def test_other_tasks_are_refused(engine, report):
    with pytest.raises(Unsupported, match="cannot detect"):
        engine.run(Detect(image=PICTURE), report)


@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (1, 1), (64, 64)])
def test_odd_pictures_work(engine, report, shape):
    report.assets[PICTURE] = np.zeros((*shape, 3), np.uint8)
    assert engine.run(click((0, 0, 1)), report).masks[0].shape == shape
    engine.run(Segment(image=PICTURE, everything=True, points_per_side=4, min_area=1), report)


def test_weights_that_compute_no_numbers_are_named(engine, report):
    engine._net.model.image_encoder.register_forward_hook(lambda _m, _i, out: out * float("nan"))
    with pytest.raises(IntegrityError, match="produced NaN"):
        engine.run(click((30, 20, 1)), report)


def test_memory_that_ends_is_said_so(engine, report):
    def fail(*_: Any) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    engine._net.model.image_encoder.register_forward_hook(fail)
    with pytest.raises(OutOfMemory, match="more memory than is left"):
        engine.run(click((30, 20, 1)), report)


def _without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _cut_off(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def _other_network(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({**TINY, "mask_channels": 8}))


def _one_tensor_less(folder: Path) -> None:
    weights = build_sam(TINY).state_dict()
    weights.pop("mask_decoder.iou_token.weight")
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_without("model.safetensors"), "no .safetensors"),
        (_without("config.json"), "config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json"),
        (lambda folder: (folder / "config.json").write_text("[]"), "config.json"),
        (lambda folder: (folder / "config.json").write_text("{}"), "image_size"),
        (_cut_off, "model.safetensors cannot be read"),
        (_other_network, "does not fit.*mask_downscaling"),
        (_one_tensor_less, "lacks 'mask_decoder.iou_token.weight'"),
    ],
)
def test_broken_files_are_named(folder, tmp_path, damage, words):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    damage(copy)
    with pytest.raises(IntegrityError, match=words):
        make(copy)


def test_an_unknown_architecture_is_named(folder):
    with pytest.raises(Unsupported, match="'sam3'"):
        make(folder, architecture="sam3")


def test_the_published_vit_b_has_our_names_and_shapes():
    from segment_anything import sam_model_registry

    with torch.device("meta"):
        mine = build_sam(CONFIGS["vit_b"]).state_dict()
        theirs = sam_model_registry["vit_b"]().state_dict()
    assert {name: tensor.shape for name, tensor in mine.items()} == {
        name: tensor.shape for name, tensor in theirs.items()
    }


@pytest.mark.parametrize("name", ["vit_b", "mobile_sam"])
def test_the_cards_names_of_published_networks_are_known(name, tmp_path):
    config = sam_weights.read_config(card(architecture=name), tmp_path)
    assert config["image_size"] == 1024


def test_a_converted_checkpoint_needs_no_config(tmp_path, folder, report, monkeypatch):
    monkeypatch.setattr("studio.engines.sam_weights.CONFIGS", {"tiny": TINY})
    (tmp_path / "sam_tiny.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    assert make(tmp_path, architecture="tiny").run(click((30, 20, 1)), report).masks


def test_batch_norms_counters_are_not_missed(tmp_path, folder, report):
    weights = {name: tensor for name, tensor in build_sam(TINY).state_dict().items() if "num_batches" not in name}
    save_file({name: tensor.half() for name, tensor in weights.items()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    engine = make(tmp_path)
    assert {parameter.dtype for parameter in engine._net.model.parameters()} == {torch.float32}
    assert len(engine.run(click((30, 20, 1)), report).masks) == 3


def test_a_card_may_ask_for_masks_that_follow_the_edges(folder, report):
    box = (8.0, 8.0, 40.0, 40.0)
    task = Segment(image=PICTURE, box=box)
    plain, refined = (make(folder, refine=refine).run(task, report).masks[0] for refine in (False, True))
    assert plain.shape == refined.shape
    assert not refined[:7].any()
    assert not refined[:, :7].any()


def test_torch_segments_in_bf16_where_the_processor_computes_in_it(
    folder: Path, engine: SamEngine, tmp_path: Path
) -> None:
    told = card(fast=Place("torch", "bf16").to_option())
    with pytest.raises(Unsupported, match="does not compute in bf16"):
        SamEngine(told, folder, Device("old", 2, 2**33, "cpu"))
    half = SamEngine(told, folder, Device("new", 2, 2**33, "cpu", frozenset({"bf16"})))
    assert half._net.digest != engine._net.digest  # or what one encoded would serve the other
    masks = [one.run(click((30, 20, 1)), new_report(tmp_path / name)).masks[0]
             for name, one in (("half", half), ("whole", engine))]  # fmt: skip
    assert (masks[0] == masks[1]).mean() > 0.9

"""The diffusion engine on random weights: what it computes is noise, how it computes is checked."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from studio.cards import Card, Source
from studio.device import Device
from studio.engines import diffusers_folder, painting, samplers
from studio.engines.diffusion import Diffusion
from studio.engines.diffusion_load import tiny_decoder
from studio.errors import Cancelled, IntegrityError, InvalidTask, OutOfMemory, StudioError, UnsafeFile, Unsupported
from studio.ops import fitting, infotext, latents
from studio.tasks import SCHEDULERS, Generate
from tests.engines.tiny_pipeline import write_sd, write_sdxl
from tests.fakes import FakeReport

DEVICE = Device("test", 1, 2**33, "cpu")
PHOTO, MASK = "a" * 64, "b" * 64


def card(**fields):
    base = {"id": "tiny", "title": "Tiny", "tasks": ("generate",), "engine": "diffusion", "licence": "Apache-2.0"}
    defaults = {"steps": 3, "guidance_scale": 3.0, "width": 64, "height": 64}
    return Card(**{**base, "source": Source(kind="imported"), "defaults": defaults, **fields})


def generate(**fields):
    return Generate(
        **{"prompt": "a fox", "steps": 3, "guidance_scale": 3.0, "width": 64, "height": 64, "seed": 0, **fields}
    )


def report(**arguments):
    rng = np.random.default_rng(0)
    mask = np.zeros((60, 100, 3), np.uint8)
    mask[20:40, 40:60] = 255
    return FakeReport({PHOTO: rng.integers(0, 256, (60, 100, 3), dtype=np.uint8), MASK: mask}, **arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_sd(tmp_path_factory.mktemp("sd"))


@pytest.fixture(scope="module")
def engine(folder):
    return Diffusion(card(), folder, DEVICE)


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def test_a_picture_and_its_facts(engine):
    watcher = report()
    result = engine.run(generate(count=2, seed=7), watcher)
    assert [image.shape for image in result.images] == [(64, 64, 3)] * 2
    assert all(image.dtype == np.uint8 for image in result.images)
    assert (result.data["seeds"], result.data["width"], result.data["height"]) == ([7, 8], 64, 64)
    assert result.data["notes"] == []
    assert set(result.data["seconds"]) == {"step", "decoding"}
    assert [infotext.read(text)["seed"] for text in result.data["infotext"]] == [7, 8]
    json.dumps(dict(result.data))


def test_progress_counts_the_whole_job_and_previews_every_step(engine):
    watcher = report()
    engine.run(generate(count=2), watcher)
    steps = [step for step, _, _ in watcher.steps]
    assert steps == sorted(steps)
    assert steps[0] == 0
    assert steps[-1] == 6
    assert {total for _, total, _ in watcher.steps} == {6}
    assert {phase for _, _, phase in watcher.steps} == {"step", "decoding"}
    assert len(watcher.previews) == 6
    assert watcher.previews[0].dtype == np.uint8
    assert watcher.previews[0].shape == (64, 64, 3)


def test_same_seed_same_pixels_whatever_the_count(engine):
    many = engine.run(generate(count=3, seed=5), report()).images
    one = engine.run(generate(seed=7), report()).images[0]
    assert np.array_equal(many[2], one)
    assert not np.array_equal(many[0], one)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler_in_every_mode(engine, scheduler):
    for mode in ({}, {"image": PHOTO}, {"image": PHOTO, "mask": MASK}):
        first, second = (engine.run(generate(scheduler=scheduler, **mode), report()).images[0] for _ in range(2))
        assert np.array_equal(first, second)


def test_schedulers_keep_what_the_checkpoint_says(tmp_path):
    engine = Diffusion(card(), write_sd(tmp_path, prediction="v_prediction"), DEVICE)
    for name in SCHEDULERS:
        config = samplers.make_scheduler(engine._own_scheduler, name).config
        assert (config["prediction_type"], config["beta_start"], config["beta_schedule"]) == (
            "v_prediction",
            0.00085,
            "scaled_linear",
        )
    assert samplers.make_scheduler(engine._own_scheduler, "DPM++ 2M Karras").config["use_karras_sigmas"]


def test_cancel_stops_within_a_step_and_the_engine_goes_on(engine):
    before = engine.run(generate(), report()).images[0]
    with pytest.raises(Cancelled):
        engine.run(generate(steps=50), report(cancel_after=2))
    assert not engine._pipe.unet._forward_hooks
    assert np.array_equal(engine.run(generate(), report()).images[0], before)


def test_no_guidance_computes_no_unconditional_half(engine):
    batches = []
    handle = engine._pipe.unet.register_forward_pre_hook(lambda module, args: batches.append(len(args[0])))
    engine.run(generate(guidance_scale=1.0, negative_prompt="x"), report())
    engine.run(generate(guidance_scale=0), report())
    assert set(batches) == {1}
    engine.run(generate(guidance_scale=2.0), report())
    handle.remove()
    assert set(batches) == {1, 2}


def test_negative_prompt_matters_with_guidance(engine):
    plain, negative = (engine.run(generate(negative_prompt=text), report()).images[0] for text in ("", "cat"))
    assert not np.array_equal(plain, negative)


def test_image_to_image_keeps_more_with_less_strength(engine):
    watcher = report()
    weak = engine.run(generate(image=PHOTO, strength=0.1, steps=10), watcher)
    assert {total for _, total, _ in watcher.steps} == {1}
    assert "Only the middle 60 × 60 of the 100 × 60 picture was used." in weak.data["notes"][0]
    start = fitting.cover(report().asset(PHOTO), 64, 64)
    with torch.inference_mode():
        reference = engine._decode(engine._encode(start), tile=0).astype(float)
    strong = engine.run(generate(image=PHOTO, strength=1.0, steps=10), report())
    distance = [np.abs(result.images[0] - reference).mean() for result in (weak, strong)]
    assert distance[0] < distance[1]


@pytest.mark.parametrize(("steps", "strength", "expected"), [(10, 0.6, (10, 6)), (3, 0.1, (10, 1)), (4, 1.0, (4, 4))])
def test_image_to_image_takes_at_least_one_step(steps, strength, expected):
    assert painting.image_steps(steps, strength) == expected


def test_inpainting_leaves_the_rest_untouched(engine):
    result = engine.run(generate(image=PHOTO, mask=MASK, strength=1.0), report()).images[0]
    start = fitting.cover(report().asset(PHOTO), 64, 64)
    mask = fitting.cover(report().asset(MASK), 64, 64, smooth=False)[..., 0] > 127
    assert np.array_equal(result[~mask], start[~mask])
    assert (result[mask] != start[mask]).mean() > 0.5


def test_an_empty_mask_is_refused(engine):
    watcher = report()
    watcher.assets[MASK] = np.zeros((60, 100, 3), np.uint8)
    with pytest.raises(InvalidTask, match="mask is empty"):
        engine.run(generate(image=PHOTO, mask=MASK), watcher)


def test_inpainting_unet_uses_its_own_channels(tmp_path):
    engine = Diffusion(card(), write_sd(tmp_path, in_channels=9), DEVICE)
    assert engine.run(generate(image=PHOTO, mask=MASK), report()).images[0].shape == (64, 64, 3)
    with pytest.raises(InvalidTask, match="only repaints"):
        engine.run(generate(), report())


def test_eight_latent_channels_and_a_full_autoencoder(tmp_path):
    engine = Diffusion(card(), write_sd(tmp_path, channels=8, tiny_vae=False), DEVICE)
    for mode in ({}, {"image": PHOTO}, {"image": PHOTO, "mask": MASK}):
        watcher = report()
        assert engine.run(generate(**mode), watcher).images[0].shape == (64, 64, 3)
        assert watcher.previews[-1].shape == (32, 32, 3)


def test_xl_layout(tmp_path):
    engine = Diffusion(card(), write_sdxl(tmp_path), DEVICE)
    for mode in ({}, {"image": PHOTO}, {"image": PHOTO, "mask": MASK}):
        assert engine.run(generate(**mode), report()).images[0].shape == (64, 64, 3)


def test_half_precision_files_run_in_full_precision(tmp_path):
    engine = Diffusion(card(), write_sd(tmp_path, variant="fp16"), DEVICE)
    assert engine._pipe.unet.dtype == torch.float32
    assert engine.run(generate(), report()).images[0].any()


def test_what_is_not_given_comes_from_the_card_and_the_model(engine, folder):
    bare = Generate(prompt="a fox")
    assert engine.run(bare, report()).images[0].shape == (64, 64, 3)
    own = Diffusion(card(defaults={"steps": 1}), folder, DEVICE)
    assert own.run(bare, report()).images[0].shape == (64, 64, 3)  # the UNet's own size
    wide = own.run(Generate(prompt="a fox", image=PHOTO), report())
    assert (wide.data["width"], wide.data["height"]) == (80, 48)  # the photo's proportions, the native area


def test_long_prompts_run_and_say_what_was_cut(engine):
    notes = engine.run(generate(prompt="abcdefghijklm ab ab cd ef"), report()).data["notes"]
    assert notes == ["The prompt is longer than this model reads; the last 4 words were ignored."]


def test_unknown_things_are_told(copy):
    (copy / "facts.json").write_text(json.dumps({"things": ["pizza", "red apple", "rocket"]}))
    engine = Diffusion(card(), copy, DEVICE)
    assert engine.run(generate(prompt="a rocket"), report()).data["notes"] == []
    (note,) = engine.run(generate(prompt="piza"), report()).data["notes"]
    assert note == "This model does not know 'piza'. It draws 3 things, none of which is named. Try 'pizza'."


def test_overflow_is_an_error_with_a_hint(engine, monkeypatch):
    monkeypatch.setattr(engine._pipe.unet, "forward", lambda sample, *a, **k: (torch.full_like(sample, float("nan")),))
    with pytest.raises(StudioError, match="overflowed") as caught:
        engine.run(generate(), report())
    assert caught.value.hint


def test_out_of_memory_is_translated(engine, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    monkeypatch.setattr(engine._pipe.unet, "forward", fail)
    with pytest.raises(OutOfMemory):
        engine.run(generate(), report())


@pytest.mark.parametrize(
    "name",
    [
        "model_index.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "text_encoder/model.safetensors",
        "scheduler/scheduler_config.json",
    ],
)
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(IntegrityError, match=name):
        Diffusion(card(), copy, DEVICE)


def test_a_truncated_file_is_named(copy):
    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(IntegrityError, match=r"diffusion_pytorch_model.safetensors .*not copied whole"):
        Diffusion(card(), copy, DEVICE)


def test_a_pickle_is_not_opened(copy):
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    (copy / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"not even a pickle")
    with pytest.raises(UnsafeFile, match=r"unet/diffusion_pytorch_model.bin is a pickle"):
        Diffusion(card(), copy, DEVICE)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"_class_name": "FluxPipeline"}, Unsupported),
        ({"_class_name": ["evil", "Pipeline"]}, Unsupported),
        ({"unet": ["my_code", "MyUNet"]}, UnsafeFile),
    ],
)
def test_foreign_pipelines_and_code_are_refused(copy, change, error):
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps({**index, **change}))
    with pytest.raises(error):
        Diffusion(card(), copy, DEVICE)


def test_a_real_incomplete_folder_is_refused(shared_weights):
    with pytest.raises(IntegrityError, match=r"unet/diffusion_pytorch_model.safetensors is missing"):
        diffusers_folder.inspect(shared_weights / "diffusion" / "tiny-sd-pipeline")


def test_a_checkpoint_in_one_file_says_what_it_is(tmp_path):
    from safetensors.torch import save_file

    key = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    save_file({key: torch.zeros(320, 768)}, tmp_path / "old.safetensors")
    with pytest.raises(Unsupported, match=r"old.safetensors is a SD 1.x checkpoint"):
        Diffusion(card(), tmp_path, DEVICE)


def test_lora_is_merged_by_its_scale(folder, engine, tmp_path):
    from safetensors.torch import save_file

    torch.manual_seed(0)
    layer = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    text = "text_model.encoder.layers.0.self_attn.q_proj"
    files = {
        "diffusers": {
            f"unet.{layer}.lora.down.weight": torch.randn(2, 32),
            f"unet.{layer}.lora.up.weight": torch.randn(32, 2),
        },
        "kohya": {
            f"lora_unet_{layer.replace('.', '_')}.lora_down.weight": torch.randn(2, 32),
            f"lora_unet_{layer.replace('.', '_')}.lora_up.weight": torch.randn(32, 2),
            f"lora_unet_{layer.replace('.', '_')}.alpha": torch.tensor(2.0),
        },
        "text": {
            f"text_encoder.{text}.lora_linear_layer.down.weight": torch.randn(2, 32),
            f"text_encoder.{text}.lora_linear_layer.up.weight": torch.randn(32, 2),
            f"unet.{layer}.lora.down.weight": torch.zeros(2, 32),
            f"unet.{layer}.lora.up.weight": torch.zeros(32, 2),
        },
    }
    plain = engine.run(generate(), report()).images[0]
    for name, weights in files.items():
        save_file({key: value.contiguous() for key, value in weights.items()}, tmp_path / f"{name}.safetensors")
        images = {}
        for scale in (0.0, 3.0):
            options = {"lora": [{"path": str(tmp_path / f"{name}.safetensors"), "scale": scale}]}
            images[scale] = Diffusion(card(options=options), folder, DEVICE).run(generate(), report()).images[0]
        assert np.abs(images[0.0].astype(int) - plain).max() <= 1, name
        assert np.abs(images[3.0].astype(int) - plain).max() > 1, name


def test_a_lora_for_another_model_is_refused(folder, shared_weights):
    options = {"lora": [{"path": str(shared_weights / "diffusion" / "lora_sd1_pokemon.safetensors")}]}
    with pytest.raises(Unsupported, match=r"SD 1.x LoRA, rank 4; it does not fit"):
        Diffusion(card(options=options), folder, DEVICE)


def test_taesd_decodes_like_its_author_says(shared_weights):
    weights = shared_weights / "diffusion"
    decoder = tiny_decoder(weights, "taesd_decoder.safetensors", torch.float32)
    latent = torch.from_numpy(np.load(weights / "goldens" / "golden_taesd_latent_1x4x16x16.npy"))
    golden = np.load(weights / "goldens" / "golden_taesd_decoded_1x3x128x128.npy")
    with torch.inference_mode():
        decoded = decoder.decode(latent).sample.clamp(-1, 1).numpy() / 2 + 0.5
    assert np.abs(decoded - golden).max() < 0.01
    known = latents.published(0.18215, 4)
    preview = known(latent.numpy()).transpose(2, 0, 1)[None].clip(-1, 1) / 2 + 0.5
    small = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(golden), 16)
    assert np.corrcoef(preview.flatten(), small.flatten())[0, 1] > 0.8


def test_tiny_decoder_takes_the_place_of_the_autoencoder(tmp_path, shared_weights):
    file = shared_weights / "diffusion" / "taesd_decoder.safetensors"
    folder = write_sd(tmp_path, tiny_vae=False)
    engine = Diffusion(card(options={"tiny_decoder": str(file)}), folder, DEVICE)
    watcher = report()
    assert engine.run(generate(), watcher).images[0].shape == (64, 64, 3)
    assert watcher.previews[0].shape == (64, 64, 3)

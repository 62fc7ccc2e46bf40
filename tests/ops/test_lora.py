"""LoRA files are recognised by their headers; real ones where they are at hand."""

from __future__ import annotations

import pytest
import torch

from studio.errors import Unsupported
from studio.intake.safeheader import read_header
from studio.nets import torchvision_guard
from studio.ops import lora, taesd

LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
FLAT = LAYER.replace(".", "_")


def pair(down, up, rank, width):
    return {down: (rank, width), up: (320, rank)}


@pytest.mark.parametrize(
    ("shapes", "layout", "text"),
    [
        (
            pair(f"unet.{LAYER}.lora.down.weight", f"unet.{LAYER}.lora.up.weight", 4, 768),
            "diffusers",
            "SD 1.x LoRA, rank 4",
        ),
        (pair(f"unet.{LAYER}.lora_A.weight", f"unet.{LAYER}.lora_B.weight", 8, 2048), "diffusers", "SDXL LoRA, rank 8"),
        (
            pair(
                "unet.mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora.down.weight",
                "unet.mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora.up.weight",
                4,
                1024,
            ),
            "diffusers",
            "SD 2.x LoRA, rank 4",
        ),
        (
            {
                **pair(f"lora_unet_{FLAT}.lora_down.weight", f"lora_unet_{FLAT}.lora_up.weight", 16, 768),
                f"lora_unet_{FLAT}.alpha": (),
            },
            "kohya",
            "SD 1.x LoRA, rank 16",
        ),
        (
            {"unet:6:down": (1, 768), "unet:6:up": (320, 1), "unet:7:down": (4, 320)},
            "cloneofsimo",
            "SD 1.x LoRA, rank 1 to 4",
        ),
    ],
)
def test_layouts(shapes, layout, text):
    found = lora.identify(shapes)
    assert (found.layout, str(found)) == (layout, text)


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ({}, "not a LoRA"),
        ({"model.weight": (3, 3)}, "not a LoRA"),
        ({f"lora_unet_{FLAT}.hada_w1_a": (4, 4)}, "LoHa"),
        ({f"lora_unet_{FLAT}.lokr_w1": (4, 4)}, "LoKr"),
        ({f"lora_unet_{FLAT}.lora_down.weight": (4, 768), f"lora_unet_{FLAT}.dora_scale": (1, 768)}, "DoRA"),
    ],
)
def test_what_is_no_plain_lora_is_named(shapes, says):
    with pytest.raises(Unsupported, match=says):
        lora.identify(shapes)


def test_numbers_that_mean_other_layers_are_refused():
    with pytest.raises(Unsupported, match=r"unet:4:down is 1x999"):
        lora.rename({"unet:4:down": (1, 999)})
    with pytest.raises(Unsupported, match="unet:144:up"):
        lora.rename({"unet:144:up": (320, 1)})


@pytest.fixture(scope="module")
def sd1_layers():
    """Name -> (outputs, inputs) of the linear layers of an SD 1.5 UNet and text encoder, on no device."""
    torchvision_guard.install()
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)
        text = CLIPTextModel(CLIPTextConfig(hidden_size=768, num_hidden_layers=12, num_attention_heads=12))
    parts = (("unet.", unet), ("text_encoder.text_model.", text))
    return {
        prefix + name.removeprefix("text_model."): tuple(module.weight.shape)
        for prefix, model in parts
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }


def fits(name, shape, layers):
    """Whether a down or up matrix has a layer whose inputs or outputs it matches."""
    layer, _, side = name.removesuffix(".weight").rpartition(".lora")
    outputs, inputs = layers[layer]
    return shape[1] == inputs if side.endswith("down") else shape[0] == outputs


def test_the_real_diffusers_lora_fits_the_real_unet(shared_weights, sd1_layers):
    shapes = read_header(shared_weights / "diffusion" / "lora_sd1_pokemon.safetensors").shapes
    found = lora.identify(shapes)
    assert (found.layout, str(found), found.has_text_encoder) == ("diffusers", "SD 1.x LoRA, rank 4", False)
    assert all(fits(name, shape, sd1_layers) for name, shape in shapes.items())


def test_the_real_cloneofsimo_lora_becomes_a_diffusers_lora(shared_weights, sd1_layers):
    shapes = read_header(shared_weights / "diffusion" / "lora_sd1_disney_cloneofsimo.safetensors").shapes
    found = lora.identify(shapes)
    assert (found.layout, str(found), found.has_text_encoder) == ("cloneofsimo", "SD 1.x LoRA, rank 1", True)
    assert found.tokens == ("<s1>", "<s2>")
    names = lora.rename(shapes)
    assert len(set(names.values())) == len(names) == len(shapes) - 2
    renamed = {new: shapes[old] for old, new in names.items()}
    assert all(fits(name, shape, sd1_layers) for name, shape in renamed.items())
    assert lora.identify(renamed).layout == "diffusers"


def test_taesd_names():
    assert taesd.rename(["1.weight", "3.conv.0.bias"]) == {
        "1.weight": "decoder.layers.0.weight",
        "3.conv.0.bias": "decoder.layers.2.conv.0.bias",
    }
    kept = ["decoder.layers.0.weight"]
    assert taesd.rename([*kept, "encoder.layers.0.weight"]) == {kept[0]: kept[0]}
    for wrong in (["conv_in.weight"], ["0.weight"], []):
        with pytest.raises(ValueError, match="decoder"):
            taesd.rename(wrong)

"""Segment Anything networks: sizes fit, published checkpoints' keys fit, and the predictor of its authors runs them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from studio.nets.sam import CONFIGS, STARTER, build_sam

TINY = {
    **STARTER,
    "encoder": {"kind": "pyramid", "widths": [8, 8, 16, 32], "depths": [1, 1, 1], "heads": 2, "mlp_ratio": 2.0},
    "image_size": 64,
    "prompt_dim": 32,
    "decoder": {"depth": 1, "mlp_dim": 32, "heads": 2, "iou_depth": 2, "iou_dim": 16, "activation": "relu"},
}


def test_the_pyramid_goes_from_pixels_to_stride_8():
    encoder = build_sam(TINY).image_encoder
    with torch.no_grad():
        assert encoder(torch.zeros(2, 3, 64, 96)).shape == (2, 32, 8, 12)


def test_the_authors_predictor_takes_the_network():
    torch.manual_seed(0)
    sam = build_sam(TINY)  # makes segment_anything importable where torchvision is broken
    from segment_anything import SamPredictor

    predictor = SamPredictor(sam)
    predictor.set_image(np.zeros((30, 50, 3), np.uint8))
    masks, scores, low = predictor.predict(np.array([[10, 20]]), np.array([1]))
    assert masks.shape == (3, 30, 50)
    assert scores.shape == (3,)
    assert low.shape == (3, 32, 32)
    masks, _, _ = predictor.predict(box=np.array([5, 5, 20, 25]), mask_input=low[:1], multimask_output=False)
    assert masks.shape == (1, 30, 50)


def test_the_starter_is_small():
    assert sum(p.numel() for p in build_sam(STARTER).parameters()) < 4e6


@pytest.mark.parametrize(
    ("name", "count", "keys"),
    [
        ("vit_b", 93_735_472, {"image_encoder.blocks.2.attn.rel_pos_h": (127, 64)}),
        (
            "mobile",
            10_130_092,
            {
                "image_encoder.patch_embed.seq.2.bn.running_var": (64,),
                "image_encoder.layers.0.blocks.1.conv2.c.weight": (256, 1, 3, 3),
                "image_encoder.layers.0.downsample.conv3.bn.weight": (128,),
                "image_encoder.layers.2.blocks.5.attn.attention_biases": (5, 196),
                "image_encoder.layers.2.downsample.conv2.c.weight": (320, 1, 3, 3),
                "image_encoder.layers.3.blocks.1.local_conv.bn.num_batches_tracked": (),
                "image_encoder.norm_head.weight": (320,),
                "image_encoder.neck.3.bias": (256,),
                "mask_decoder.iou_prediction_head.layers.2.weight": (4, 256),
            },
        ),
    ],
)
def test_published_networks_have_their_size_and_keys(name, count, keys):
    with torch.device("meta"):
        sam = build_sam(CONFIGS[name])
    assert sum(p.numel() for p in sam.parameters()) == count
    state = sam.state_dict()
    assert {key: tuple(state[key].shape) for key in keys} == keys


def test_tiny_vit_attends_within_windows_that_do_not_divide_the_map():
    from studio.nets.tiny_vit import TinyViT

    torch.manual_seed(0)
    encoder = TinyViT(
        img_size=64, embed_dims=(8, 16, 16, 32), depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 2), out_chans=8, num_classes=1
    ).eval()
    with torch.no_grad():
        out = encoder(torch.randn(2, 3, 64, 64))
    assert out.shape == (2, 8, 4, 4)
    assert out.isfinite().all()

"""Segment Anything (Kirillov et al., 2023) from a dictionary of numbers, and a small pyramid encoder for it.

`build_sam` puts together segment_anything's own `Sam`, so that its predictor, its automatic mask generator and its ONNX
export work on every network built here, whichever image encoder it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

STARTER: Mapping[str, Any] = {
    "encoder": {"kind": "pyramid", "widths": [32, 48, 96, 192], "depths": [1, 2, 6], "heads": 6, "mlp_ratio": 3.0},
    "image_size": 256,
    "stride": 8,
    "prompt_dim": 128,
    "mask_channels": 16,
    "decoder": {"depth": 2, "mlp_dim": 512, "heads": 4, "iou_depth": 3, "iou_dim": 128, "activation": "relu"},
}
"""The starter segmenter: 256 px pictures, 32x32 embedding, 128x128 low-resolution masks."""

_PUBLISHED: Mapping[str, Any] = {
    "image_size": 1024,
    "stride": 16,
    "prompt_dim": 256,
    "mask_channels": 16,
    "decoder": {"depth": 2, "mlp_dim": 2048, "heads": 8, "iou_depth": 3, "iou_dim": 256, "activation": "gelu"},
}
_VIT: Mapping[str, Any] = {"kind": "vit", "mlp_ratio": 4.0, "window": 14}

CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "starter": STARTER,
    "mobile": {**_PUBLISHED, "encoder": {"kind": "tiny_vit"}},
    "vit_b": {**_PUBLISHED, "encoder": {**_VIT, "width": 768, "depth": 12, "heads": 12, "whole": [2, 5, 8, 11]}},
    "vit_l": {**_PUBLISHED, "encoder": {**_VIT, "width": 1024, "depth": 24, "heads": 16, "whole": [5, 11, 17, 23]}},
    "vit_h": {**_PUBLISHED, "encoder": {**_VIT, "width": 1280, "depth": 32, "heads": 16, "whole": [7, 15, 23, 31]}},
}
"""Named networks. All but the starter have the numbers, and so the state-dict keys, of published checkpoints."""


def build_sam(config: Mapping[str, Any]) -> Any:
    """A `segment_anything.modeling.Sam` with random weights, in eval mode. `config` is laid out like `STARTER`.

    Its encoder takes normalised RGB (B, 3, S, S), S = `image_size`, to (B, `prompt_dim`, S / `stride`, S / `stride`).
    Raises KeyError for a missing number or an unknown encoder kind.
    """
    from studio.nets.torchvision_guard import install

    install()
    from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    size, dim, decoder = config["image_size"], config["prompt_dim"], config["decoder"]
    grid = size // config["stride"]
    sam = Sam(
        image_encoder=_ENCODERS[config["encoder"]["kind"]](config),
        prompt_encoder=PromptEncoder(
            embed_dim=dim,
            image_embedding_size=(grid, grid),
            input_image_size=(size, size),
            mask_in_chans=config["mask_channels"],
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(
                depth=decoder["depth"], embedding_dim=dim, mlp_dim=decoder["mlp_dim"], num_heads=decoder["heads"]
            ),
            transformer_dim=dim,
            activation=_ACTIVATIONS[decoder["activation"]],
            iou_head_depth=decoder["iou_depth"],
            iou_head_hidden_dim=decoder["iou_dim"],
        ),
        pixel_mean=[123.675, 116.28, 103.53],
        pixel_std=[58.395, 57.12, 57.375],
    )
    return sam.eval()


class PyramidEncoder(nn.Module):
    """Convolutions down to stride 16, attention there, and a pyramid back up to stride 8 (Lin et al., 2017).

    Far less data-hungry than a plain ViT: edges come from convolutions, and only (S / 16)^2 tokens see each other.
    Position enters by depthwise convolutions (Chu et al., 2021), so no size is built in.
    """

    def __init__(
        self,
        *,
        img_size: int,
        widths: Sequence[int],
        depths: Sequence[int],
        heads: int,
        mlp_ratio: float,
        out_chans: int,
    ) -> None:
        super().__init__()
        self.img_size = img_size  # SamPredictor asks for it
        c2, c4, c8, c16 = widths
        self.stem = ConvNorm(3, c2, stride=2)
        self.quarter = nn.Sequential(ConvNorm(c2, c4, stride=2), *(ConvBlock(c4) for _ in range(depths[0])))
        self.eighth = nn.Sequential(ConvNorm(c4, c8, stride=2), *(ConvBlock(c8) for _ in range(depths[1])))
        self.sixteenth = ConvNorm(c8, c16, stride=2)
        self.blocks = nn.Sequential(*(AttentionBlock(c16, heads, mlp_ratio) for _ in range(depths[2])))
        self.from_quarter = nn.Conv2d(c4, out_chans, 2, stride=2)
        self.from_eighth = nn.Conv2d(c8, out_chans, 1)
        self.from_sixteenth = nn.Conv2d(c16, out_chans, 1)
        self.merge = ConvNorm(out_chans, out_chans)
        self.neck = nn.Conv2d(out_chans, out_chans, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised RGB (B, 3, H, W) -> embedding (B, out_chans, H / 8, W / 8); H and W multiples of 16."""
        quarter = self.quarter(self.stem(x))  # (B, c4, H/4, W/4)
        eighth = self.eighth(quarter)  # (B, c8, H/8, W/8)
        deep = self.blocks(self.sixteenth(eighth))  # (B, c16, H/16, W/16)
        up = F.interpolate(self.from_sixteenth(deep), scale_factor=2.0, mode="nearest")
        return self.neck(self.merge(up + self.from_eighth(eighth) + self.from_quarter(quarter)))


class ConvNorm(nn.Sequential):
    """3x3 convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )


class ConvBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al., 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = ConvNorm(width, width)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


class AttentionBlock(nn.Module):
    """A pre-norm transformer block on a map (B, C, H, W), positions by a depthwise 3x3 convolution."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.heads = heads
        self.position = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        hidden = int(width * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = x + self.position(x)
        t = x.flatten(2).transpose(1, 2)  # (B, H*W, C)
        qkv = self.qkv(self.norm1(t)).view(b, h * w, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, H*W, C/heads)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, h * w, c)
        t = t + self.proj(attended)
        t = t + self.mlp(self.norm2(t))
        return t.transpose(1, 2).reshape(b, c, h, w)


def _vit(config: Mapping[str, Any]) -> nn.Module:
    from segment_anything.modeling import ImageEncoderViT

    encoder, size, stride = config["encoder"], config["image_size"], config["stride"]
    return ImageEncoderViT(
        img_size=size,
        patch_size=stride,
        embed_dim=encoder["width"],
        depth=encoder["depth"],
        num_heads=encoder["heads"],
        mlp_ratio=encoder["mlp_ratio"],
        out_chans=config["prompt_dim"],
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=encoder["window"],
        global_attn_indexes=tuple(encoder["whole"]),
    )


def _pyramid(config: Mapping[str, Any]) -> nn.Module:
    encoder = config["encoder"]
    return PyramidEncoder(
        img_size=config["image_size"],
        widths=encoder["widths"],
        depths=encoder["depths"],
        heads=encoder["heads"],
        mlp_ratio=encoder["mlp_ratio"],
        out_chans=config["prompt_dim"],
    )


def _tiny_vit(config: Mapping[str, Any]) -> nn.Module:
    from studio.nets.tiny_vit import TinyViT

    return TinyViT(img_size=config["image_size"], out_chans=config["prompt_dim"])


_ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU}
_ENCODERS = {"pyramid": _pyramid, "tiny_vit": _tiny_vit, "vit": _vit}

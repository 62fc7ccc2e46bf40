"""TinyViT (Wu et al., 2022) as an image encoder for Segment Anything, as in MobileSAM (Zhang et al., 2023).

Written from the papers; modules are named so that the public MobileSAM checkpoint (Apache-2.0) fits key by key.
Convolutions down to stride 4 and a stage of inverted bottlenecks, then three stages of windowed attention at strides 8,
16 and 16, each window a square with learnt biases for the distance between two of its places.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TinyViT(nn.Module):
    """Normalised RGB (B, 3, S, S) -> embedding (B, out_chans, S / 16, S / 16), S = `img_size`, a multiple of 32."""

    def __init__(
        self,
        *,
        img_size: int = 1024,
        embed_dims: Sequence[int] = (64, 128, 160, 320),
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (2, 4, 5, 10),
        window_sizes: Sequence[int] = (7, 7, 14, 7),
        mlp_ratio: float = 4.0,
        out_chans: int = 256,
        num_classes: int = 1000,
    ) -> None:
        super().__init__()
        from segment_anything.modeling.common import LayerNorm2d

        self.img_size = img_size  # SamPredictor asks for it
        self.patch_embed = Stem(embed_dims[0])
        stages: list[nn.Module] = []
        for i, (dim, depth) in enumerate(zip(embed_dims, depths, strict=True)):
            blocks = [
                MBConv(dim) if i == 0 else Block(dim, num_heads[i], window_sizes[i], mlp_ratio) for _ in range(depth)
            ]
            last = i == len(embed_dims) - 1
            # The last step down is taken out, so that the embedding has stride 16.
            step = None if last else Downsample(dim, embed_dims[i + 1], stride=2 if i < len(embed_dims) - 2 else 1)
            stages.append(Stage(blocks, step))
        self.layers = nn.ModuleList(stages)
        self.norm_head = nn.LayerNorm(embed_dims[-1])  # unused, in the checkpoint: the head of its classifier
        self.head = nn.Linear(embed_dims[-1], num_classes)
        self.neck = nn.Sequential(
            nn.Conv2d(embed_dims[-1], out_chans, 1, bias=False),
            LayerNorm2d(out_chans),
            nn.Conv2d(out_chans, out_chans, 3, padding=1, bias=False),
            LayerNorm2d(out_chans),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)  # (B, C, S/4, S/4)
        for stage in self.layers:
            x = stage(x)
        return self.neck(x)


class ConvNorm(nn.Sequential):
    """Convolution `c` without bias and batch norm `bn`."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.add_module("c", nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False))
        self.add_module("bn", nn.BatchNorm2d(outputs))


class Stem(nn.Module):
    """Two strided 3x3 convolutions: (B, 3, S, S) -> (B, C, S/4, S/4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(ConvNorm(3, width // 2, 3, 2), nn.GELU(), ConvNorm(width // 2, width, 3, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.seq(x)


class Stage(nn.Module):
    """Blocks on a map (B, C, H, W), then the step down, where there is one."""

    def __init__(self, blocks: Sequence[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class MBConv(nn.Module):
    """An inverted bottleneck beside a shortcut: widen four times, 3x3 per channel, narrow."""

    def __init__(self, width: int, expand: int = 4) -> None:
        super().__init__()
        self.conv1 = ConvNorm(width, expand * width)
        self.conv2 = ConvNorm(expand * width, expand * width, 3, groups=expand * width)
        self.conv3 = ConvNorm(expand * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x + self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x))))))


class Downsample(nn.Module):
    """From one stage's width to the next one's, and with stride 2 to half the height and width."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, outputs)
        self.conv2 = ConvNorm(outputs, outputs, 3, stride, groups=outputs)
        self.conv3 = ConvNorm(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))


class Block(nn.Module):
    """Attention within windows, a 3x3 convolution per channel, an MLP: (B, C, H, W) -> the same."""

    def __init__(self, width: int, heads: int, window: int, mlp_ratio: float) -> None:
        super().__init__()
        self.window = window
        self.attn = Attention(width, heads, window)
        self.local_conv = ConvNorm(width, width, 3, groups=width)
        self.mlp = Mlp(width, int(width * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        s = self.window
        t = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        padded = t if (h, w) == (s, s) else F.pad(t, (0, 0, 0, -w % s, 0, -h % s))
        rows, columns = padded.shape[1] // s, padded.shape[2] // s
        windows = padded.reshape(b, rows, s, columns, s, c).transpose(2, 3).reshape(-1, s * s, c)
        attended = self.attn(windows).view(b, rows, columns, s, s, c).transpose(2, 3)
        t = t + attended.reshape(b, rows * s, columns * s, c)[:, :h, :w]
        x = self.local_conv(t.permute(0, 3, 1, 2))
        return x + self.mlp(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Attention(nn.Module):
    """Attention among the s * s places of each window, (N, s * s, C), with a learnt bias per head and distance."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        # Distances (rows apart, columns apart) are numbered as the first place meets them: row by row.
        place = torch.arange(window * window)
        apart = (place[:, None] // window - place // window).abs() * window
        apart = apart + (place[:, None] % window - place % window).abs()
        self.register_buffer("attention_bias_idxs", apart, persistent=False)  # (s * s, s * s)

    def forward(self, x: Tensor) -> Tensor:
        n, places, width = x.shape
        # Within each head: query, key, value.
        q, k, v = self.qkv(self.norm(x)).view(n, places, self.heads, 3, -1).permute(3, 0, 2, 1, 4)
        bias = self.attention_biases[:, self.attention_bias_idxs]  # (heads, s * s, s * s)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(attended.transpose(1, 2).reshape(n, places, width))


class Mlp(nn.Module):
    """Layer norm and two linear layers."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.norm(x))))

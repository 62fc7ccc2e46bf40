"""CLIP's two towers with the names and shapes of Hugging Face's CLIPModel, so that its weights load unchanged.

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision". Pictures are float
(B, 3, S, S), normalised as the configuration says; words are int64 (B, L), padded with the last token,
which ends a text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
}


@dataclass(frozen=True)
class Tower:
    """Sizes of one tower, named as in config.json."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Tower:
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})


@dataclass(frozen=True)
class Config:
    """What config.json says that the networks need."""

    text: Tower
    vision: Tower
    projection_dim: int
    vocab_size: int
    max_position_embeddings: int
    eos_token_id: int
    image_size: int
    patch_size: int

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Config:
        """From CLIPModel's config.json. Raises KeyError or TypeError where it is none."""
        text, vision = data["text_config"], data["vision_config"]
        return cls(
            text=Tower.read(text),
            vision=Tower.read(vision),
            projection_dim=data["projection_dim"],
            vocab_size=text["vocab_size"],
            max_position_embeddings=text["max_position_embeddings"],
            eos_token_id=text.get("eos_token_id", 2),
            image_size=vision["image_size"],
            patch_size=vision["patch_size"],
        )

    def write(self) -> dict[str, Any]:
        """For config.json, as transformers reads it."""
        return {
            "architectures": ["CLIPModel"],
            "model_type": "clip",
            "projection_dim": self.projection_dim,
            "text_config": {
                **asdict(self.text),
                "model_type": "clip_text_model",
                "projection_dim": self.projection_dim,
                "vocab_size": self.vocab_size,
                "max_position_embeddings": self.max_position_embeddings,
                "bos_token_id": self.eos_token_id - 1,
                "eos_token_id": self.eos_token_id,
                "pad_token_id": self.eos_token_id,
            },
            "vision_config": {
                **asdict(self.vision),
                "model_type": "clip_vision_model",
                "projection_dim": self.projection_dim,
                "image_size": self.image_size,
                "patch_size": self.patch_size,
            },
        }


class Attention(nn.Module):
    def __init__(self, tower: Tower) -> None:
        super().__init__()
        width = tower.hidden_size
        self.heads = tower.num_attention_heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (
            layer(x).view(batch, length, self.heads, width // self.heads).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.out_proj(seen.transpose(1, 2).reshape(batch, length, width))


class Mlp(nn.Module):
    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self.fc1 = nn.Linear(tower.hidden_size, tower.intermediate_size)
        self.fc2 = nn.Linear(tower.intermediate_size, tower.hidden_size)
        self.act = ACTIVATIONS[tower.hidden_act]

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Layer(nn.Module):
    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self.self_attn, self.mlp = Attention(tower), Mlp(tower)
        self.layer_norm1 = nn.LayerNorm(tower.hidden_size, tower.layer_norm_eps)
        self.layer_norm2 = nn.LayerNorm(tower.hidden_size, tower.layer_norm_eps)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x), causal)
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nn.Module):
    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(tower) for _ in range(tower.num_hidden_layers))

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        for layer in self.layers:
            x = layer(x, causal)
        return x


class TextTower(nn.Module):
    """Tokens (B, L) -> the last layer's state at the token that ends the text, (B, width)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.text.hidden_size
        self.embeddings = nn.Module()
        self.embeddings.token_embedding = nn.Embedding(config.vocab_size, width)
        self.embeddings.position_embedding = nn.Embedding(config.max_position_embeddings, width)
        self.encoder = Encoder(config.text)
        self.final_layer_norm = nn.LayerNorm(width, config.text.layer_norm_eps)
        # OpenAI's configurations say 2 where the tokenizer's last token is meant.
        self.end = config.eos_token_id if config.eos_token_id != 2 else config.vocab_size - 1

    def forward(self, tokens: Tensor) -> Tensor:
        places: Tensor = self.embeddings.position_embedding.weight[: tokens.shape[1]]  # type: ignore[union-attr,index]
        x = self.embeddings.token_embedding(tokens) + places  # type: ignore[operator]
        x = self.final_layer_norm(self.encoder(x, causal=True))
        end = (tokens == self.end).to(torch.int32).argmax(1)
        return x.gather(1, end[:, None, None].expand(-1, 1, x.shape[2]))[:, 0]


class VisionTower(nn.Module):
    """Pictures (B, 3, S, S) -> the last layer's state of the class token, (B, width)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, patch = config.vision.hidden_size, config.patch_size
        self.embeddings = nn.Module()
        self.embeddings.class_embedding = nn.Parameter(torch.randn(width) * 0.02)
        self.embeddings.patch_embedding = nn.Conv2d(3, width, patch, patch, bias=False)
        self.embeddings.position_embedding = nn.Embedding((config.image_size // patch) ** 2 + 1, width)
        self.pre_layrnorm = nn.LayerNorm(width, config.vision.layer_norm_eps)  # CLIP's own spelling
        self.encoder = Encoder(config.vision)
        self.post_layernorm = nn.LayerNorm(width, config.vision.layer_norm_eps)

    def forward(self, pictures: Tensor) -> Tensor:
        patches = self.embeddings.patch_embedding(pictures).flatten(2).transpose(1, 2)  # type: ignore[operator]
        first = self.embeddings.class_embedding.expand(len(patches), 1, -1).to(patches.dtype)  # type: ignore[operator]
        x = torch.cat([first, patches], 1) + self.embeddings.position_embedding.weight  # type: ignore[union-attr]
        return self.post_layernorm(self.encoder(self.pre_layrnorm(x))[:, 0])


class Clip(nn.Module):
    """Both towers and what makes their answers comparable: vectors of length 1, (B, projection_dim)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.text_model, self.vision_model = TextTower(config), VisionTower(config)
        self.text_projection = nn.Linear(config.text.hidden_size, config.projection_dim, bias=False)
        self.visual_projection = nn.Linear(config.vision.hidden_size, config.projection_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5 * 0.7)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)

    def texts(self, tokens: Tensor) -> Tensor:
        return F.normalize(self.text_projection(self.text_model(tokens)).float(), dim=1)

    def pictures(self, pictures: Tensor) -> Tensor:
        return F.normalize(self.visual_projection(self.vision_model(pictures)).float(), dim=1)

"""Recipe: the starter autoencoder, 128 px RGB <-> 16x16 latents of 8 channels, as a diffusers `AutoencoderTiny`.

First encoder and decoder learn together on pieces of starter-world scenes; then the encoder is frozen, its last layer
rescaled so that latents have mean 0 and deviation 1 per channel, and the decoder alone is polished.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from studio.nets import torchvision_guard
from studio.train import loop, world

CHANNELS = 8
PIECE_PX = 64


def network(width: int = 48) -> Any:
    """A fresh AutoencoderTiny that reduces height and width by 8."""
    torchvision_guard.install()
    from diffusers import AutoencoderTiny

    return AutoencoderTiny(
        encoder_block_out_channels=(width,) * 4,
        decoder_block_out_channels=(width,) * 4,
        num_encoder_blocks=(0, 1, 2, 3),
        num_decoder_blocks=(3, 2, 1, 0),
        latent_channels=CHANNELS,
    )


def tensor(pictures: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> Tensor:
    """RGB uint8 (N, H, W, 3) -> float32 (N, 3, H, W) in [-1, 1]."""
    stack = torch.from_numpy(np.ascontiguousarray(np.stack(list(pictures))))
    return stack.permute(0, 3, 1, 2).float().div(127.5).sub(1)


def pictures(values: Tensor) -> NDArray[np.uint8]:
    """float (N, 3, H, W) in [-1, 1] -> RGB uint8 (N, H, W, 3)."""
    return values.clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).numpy()


def difference(made: Tensor, wanted: Tensor) -> Tensor:
    """How far two pictures (N, 3, H, W) in [-1, 1] are apart: values, and edges between neighbours."""
    off = (made - wanted) / 2
    edges = (off.diff(dim=2)).abs().mean() + (off.diff(dim=3)).abs().mean()
    return 8 * off.square().mean() + off.abs().mean() + edges


def psnr(made: Tensor, wanted: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB per picture (N,), both (N, 3, H, W) in [-1, 1]."""
    error = ((made.clamp(-1, 1) - wanted) / 2).square().mean(dim=(1, 2, 3))
    return -10 * torch.log10(error + 1e-10)


def pool(count: int, seed: int) -> NDArray[np.uint8]:
    """Scenes to learn from, uint8 (count, 128, 128, 3): two thirds portraits, the rest pairs and scatters."""
    modes = ("portrait", "portrait", "portrait", "portrait", "pair", "scatter")
    return np.stack([world.scene(seed + i, mode=modes[i % len(modes)]).picture for i in range(count)])


def pieces(scenes: NDArray[np.uint8], count: int, generator: torch.Generator) -> Tensor:
    """`count` random pieces of the scenes, float (count, 3, PIECE_PX, PIECE_PX) in [-1, 1]."""
    which = torch.randint(len(scenes), (count,), generator=generator).tolist()
    last = scenes.shape[1] - PIECE_PX
    corners = torch.randint(last + 1, (count, 2), generator=generator).tolist()
    return tensor([scenes[i, y : y + PIECE_PX, x : x + PIECE_PX] for i, (y, x) in zip(which, corners, strict=True)])


def train(
    folder: Path,
    *,
    minutes: float | None = 15.0,
    decoder_minutes: float = 8.0,
    steps: int | None = None,
    batch: int = 8,
    scenes: int = 9000,
    rate: float = 2e-3,
    muon_rate: float | None = 0.02,
    seed: int = 0,
    resume: bool = True,
    report: loop.Report | None = None,
) -> dict[str, float]:
    """Trains both phases and saves `folder`/vae for diffusers. `steps` bounds each phase instead of minutes."""
    torch.manual_seed(seed)
    net = network().to(memory_format=torch.channels_last)
    data = pool(scenes, seed=1_000_000 * (seed + 1))
    budget = {"steps": steps} if steps is not None else {"minutes": minutes}
    plan = loop.Plan(**budget, rate=rate, muon_rate=muon_rate, ema=0.998)  # type: ignore[arg-type]
    both = loop.fit(
        net, _joint(net, data, batch), plan, checkpoint=folder / "joint.pt", seed=seed, resume=resume, report=report
    )
    standardise(net, data[:600])
    net.save_pretrained(folder / "encoder")  # from here on latents stay valid
    alone = polish(
        net,
        data,
        folder,
        batch=batch,
        minutes=decoder_minutes,
        steps=steps,
        muon_rate=muon_rate,
        resume=resume,
        report=report,
    )
    return {**both, "decoder_minutes": alone["minutes"], **evaluate(folder)}


def polish(
    net: Any,
    data: NDArray[np.uint8],
    folder: Path,
    *,
    minutes: float | None = 8.0,
    steps: int | None = None,
    batch: int = 8,
    rate: float = 1e-3,
    muon_rate: float | None = 0.02,
    seed: int = 1,
    resume: bool = True,
    report: loop.Report | None = None,
) -> dict[str, float]:
    """Tunes the decoder alone and saves `folder`/vae; the latents of the frozen encoder stay what they are."""
    net.encoder.requires_grad_(False)
    if not (resume and (folder / "decoder.pt").is_file()):
        with torch.no_grad():
            revive(net.decoder, net.encoder(tensor(data[:32])))

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Any]]:
        wanted = pieces(data, batch, generator).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            latents = net.encoder(wanted)
            latents = latents + 0.05 * torch.randn(latents.shape, generator=generator)
        made = net.decoder(latents)
        return difference(made, wanted), {"psnr": psnr(made.detach(), wanted).mean()}

    budget = {"steps": steps} if steps is not None else {"minutes": minutes}
    plan = loop.Plan(**budget, rate=rate, muon_rate=muon_rate, ema=0.998)  # type: ignore[arg-type]
    done = loop.fit(net.decoder, loss, plan, checkpoint=folder / "decoder.pt", seed=seed, resume=resume, report=report)
    net.save_pretrained(folder / "vae")
    return done


@torch.no_grad()
def revive(net: nn.Module, x: Tensor) -> int:
    """Starts residual branches anew that give the same for every pixel of `x`, and returns how many.

    Large steps early in a training can push all of a branch below its ReLU, where no gradient reaches it again. Its
    last layer begins at zero beside the old bias, so the network computes what it did before.
    """
    branches = [m.conv for m in net.modules() if type(m).__name__ == "AutoencoderTinyBlock"]
    alive = [0.0] * len(branches)

    def listen(number: int) -> Callable[[nn.Module, Any, Tensor], None]:
        def hear(layer: nn.Module, given: Any, made: Tensor) -> None:
            alive[number] = float((made > 0).float().mean())

        return hear

    hooks = [branch[3].register_forward_hook(listen(i)) for i, branch in enumerate(branches)]
    net(x)
    for hook in hooks:
        hook.remove()
    dead = [branch for i, branch in enumerate(branches) if alive[i] < 0.01]
    for branch in dead:
        for layer in (branch[0], branch[2]):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(branch[4].weight)
    return len(dead)


def _joint(net: Any, data: NDArray[np.uint8], batch: int) -> loop.Loss:
    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Any]]:
        wanted = pieces(data, batch, generator).contiguous(memory_format=torch.channels_last)
        latents = net.encoder(wanted)  # (batch, CHANNELS, PIECE_PX / 8, PIECE_PX / 8)
        mean, deviation = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
        spread = mean.square().mean() + (deviation - 1).square().mean()
        made = net.decoder(latents + 0.05 * torch.randn(latents.shape, generator=generator))
        return difference(made, wanted) + 0.01 * spread, {"psnr": psnr(made.detach(), wanted).mean(), "spread": spread}

    return loss


@torch.no_grad()
def standardise(net: Any, scenes: NDArray[np.uint8]) -> None:
    """Rescales the encoder's last layer in place: latents of `scenes` get mean 0 and deviation 1 in every channel."""
    latents = encode(net, scenes)
    mean, deviation = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    last: nn.Conv2d = net.encoder.layers[-1]
    assert last.bias is not None
    last.weight.div_(deviation[:, None, None, None])
    last.bias.sub_(mean).div_(deviation)


@torch.no_grad()
def encode(net: Any, scenes: NDArray[np.uint8], batch: int = 64) -> Tensor:
    """Latents of RGB uint8 (N, H, W, 3), float32 (N, CHANNELS, H / 8, W / 8)."""
    parts = [net.encoder(tensor(scenes[i : i + batch])).contiguous() for i in range(0, len(scenes), batch)]
    return torch.cat(parts)


@torch.no_grad()
def evaluate(folder: Path, *, count: int = 100, seed: int = 7) -> dict[str, float]:
    """PSNR in dB of `folder`/vae on `count` portraits of held-out (thing, colour) pairs at 128 px."""
    torchvision_guard.install()
    from diffusers import AutoencoderTiny

    net: Any = AutoencoderTiny.from_pretrained(folder / "vae", torch_dtype=torch.float32).eval()
    wanted = tensor(held_out_portraits(count, seed))
    made = torch.cat([net.decoder(net.encoder(part)) for part in wanted.split(25)])
    return {"psnr_db": round(float(psnr(made, wanted).mean()), 2)}


def held_out_portraits(count: int, seed: int) -> NDArray[np.uint8]:
    """Pictures of pairs that training never shows, uint8 (count, 128, 128, 3)."""
    pairs = [
        (thing, colour) for thing in world.THINGS for colour in world.COLOURS if world.held_out(thing.name, colour)
    ]
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(pairs))[:count]
    drawn = [world.portrait(thing, colour, rng) for thing, colour in (pairs[i] for i in chosen)]
    return np.stack([one.picture for one in drawn])

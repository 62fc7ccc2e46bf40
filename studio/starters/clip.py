"""Recipe: the starter CLIP, two small towers that put pictures and words into one space.

    python -m studio.starters.clip --textures FOLDER --out clip.pt --seconds 480

`textures.py` draws FOLDER; `--tokenizer` writes the tokenizer there first. Pictures are composed on the device from
emoji (`textures.Painter`), captions by facts (`scenes`); a caption that is also true of another picture of the batch
does not count it as a counterexample.
"""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from studio.nets.clip import Clip, Config, Tower
from studio.starters import budget, scenes, textures, words
from studio.train import world
from studio.train.loop import Average

SIZE, LENGTH, VOCABULARY = 96, 32, 2600
MEAN, DEVIATION = 0.5, 0.35
"""Pictures in 0..1 are normalised with these before the tower."""
LOOKED_AT = 200


def config() -> Config:
    return Config(
        text=Tower(hidden_size=128, intermediate_size=512, num_hidden_layers=3, num_attention_heads=4),
        vision=Tower(hidden_size=160, intermediate_size=640, num_hidden_layers=6, num_attention_heads=5),
        projection_dim=128,
        vocab_size=VOCABULARY,
        max_position_embeddings=LENGTH,
        eos_token_id=VOCABULARY - 1,
        image_size=SIZE,
        patch_size=8,
    )


def tokenizer(lexicon: scenes.Lexicon) -> Any:
    """Byte pairs of lower-case words without accents; the last two of the vocabulary begin and end a text."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    made = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    made.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()])
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    made.decoder = decoders.BPEDecoder(suffix="</w>")
    rng = np.random.default_rng(0)
    said = (scenes.say(lexicon, scenes.draw(lexicon, rng), rng).text for _ in range(40_000))
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 2, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False
    )
    made.train_from_iterator(itertools.chain(said, lexicon.index, map(words.plural, lexicon.index)), trainer)
    missing = VOCABULARY - 2 - made.get_vocab_size()
    made.add_special_tokens([f"<unused{k}>" for k in range(missing)] + ["<start>", "<end>"])
    made.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", VOCABULARY - 2), ("<end>", VOCABULARY - 1)]
    )
    made.enable_truncation(LENGTH)
    made.enable_padding(pad_id=VOCABULARY - 1, pad_token="<end>", length=LENGTH)
    return made


def held_out(lexicon: scenes.Lexicon, encode: Any, count: int = LOOKED_AT, seed: int = 1) -> dict[str, Tensor]:
    """Scenes that no training draws: things of the starter world on held-out colours, and others of another seed."""
    rng = np.random.default_rng([seed, 999])
    modes = ("portrait", "portrait", "pair", "scatter", "count")
    drawn = [
        scenes.draw(lexicon, rng, modes[k % 5], held_out=modes[k % 5] in ("portrait", "pair")) for k in range(count)
    ]
    captions = [scenes.say(lexicon, one, rng, plainly=k % 2 == 0) for k, one in enumerate(drawn)]
    return scenes.collate(lexicon, drawn, captions, [e.ids for e in encode([c.text for c in captions])])


def normalised(pictures: Tensor) -> Tensor:
    return (pictures - MEAN) / DEVIATION


def loss(net: Clip, pictures: Tensor, tokens: Tensor, fits: Tensor) -> Tensor:
    """Radford et al.'s symmetric cross-entropy; pairs that fit without being the pair are left out."""
    said, seen = net.texts(tokens), net.pictures(pictures)
    with torch.autocast(said.device.type, enabled=False):  # a hundred times what bf16 would round
        scores = net.logit_scale.clamp(max=math.log(100)).exp() * said @ seen.T  # (captions, pictures)
    own = torch.arange(len(scores), device=scores.device)
    scores = scores.masked_fill(fits & ~torch.eye(len(scores), dtype=torch.bool, device=scores.device), -1e4)
    return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2


@torch.no_grad()
def found_within(net: Clip, pictures: Tensor, tokens: Tensor, first: int) -> float:
    """Share of the captions whose own picture is among the `first` best of all."""
    scores = net.texts(tokens) @ net.pictures(normalised(pictures)).T
    rank = (scores > scores.diagonal()[:, None]).sum(1)
    return float((rank < first).float().mean())


def photographs(folder: Path | None) -> list[Any]:
    from studio.train.photographs import photographs as bundled

    if folder is None:
        return list(bundled())
    from PIL import Image

    return [np.asarray(Image.open(file).convert("RGB")) for file in sorted(folder.iterdir())]


def train(args: Any) -> None:
    atlas = textures.read(args.textures)
    lexicon = scenes.Lexicon(atlas)
    spelling = (args.textures / "tokenizer.json").read_text(encoding="utf-8")
    data = scenes.Scenes(lexicon, spelling, args.batch, args.seed)
    loader = torch.utils.data.DataLoader(
        data, batch_size=None, num_workers=args.workers, prefetch_factor=4 if args.workers else None
    )
    batches = iter(loader)
    first = next(batches)  # the workers have begun before a GPU is touched
    device = budget.prepare(args.device, args.seed)
    from tokenizers import Tokenizer

    painter = textures.Painter(atlas, photographs(args.photographs), device)
    members = lexicon.members.to(device)
    net = Clip(config()).to(device)
    average = Average(net, 0.999)
    decayed = [p for p in net.parameters() if p.ndim >= 2]
    others = [p for p in net.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        lr=args.rate, betas=(0.9, 0.98), eps=1e-6, fused=device.type == "cuda",
    )  # fmt: skip
    looked = {k: v.to(device) for k, v in held_out(lexicon, Tokenizer.from_str(spelling).encode_batch).items()}
    seen = painter.paint(looked, SIZE)
    plan = budget.Budget(args.seconds, args.steps, warmup=400)
    step, mean = 0, 0.0
    while plan.progress(step) < 1:
        batch = first if step == 0 else next(batches)
        batch = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
        with torch.no_grad():
            pictures = normalised(textures.blurred_and_lit(painter.paint(batch, SIZE)))
            fits = scenes.fitting(batch, members)
        for group in optimizer.param_groups:
            group["lr"] = args.rate * plan.rate(step)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            wrong = loss(net, pictures, batch["tokens"], fits)
        optimizer.zero_grad(set_to_none=True)
        wrong.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        average.update(net, step)
        step += 1
        if plan.due("look", 20) or step == 10:
            mean = float(wrong.detach())
            with average.applied(net):
                hits = [found_within(net, seen, looked["tokens"], n) for n in (1, 5)]
            budget.tell(
                f"clip {plan.elapsed():.0f} s step {step} loss {mean:.3f} first {hits[0]:.3f} five {hits[1]:.3f}"
            )
        if plan.due("save", 60):
            keep(average, args.out, step)
    keep(average, args.out, step)
    with average.applied(net):
        hits = [found_within(net, seen, looked["tokens"], n) for n in (1, 5)]
    budget.tell(f"clip done {plan.elapsed():.0f} s step {step} first {hits[0]:.3f} five {hits[1]:.3f}")


def keep(average: Average, path: Path, step: int) -> None:
    budget.save({"weights": budget.half(average.weights), "config": config().write(), "steps": step}, path)


def export(saved: Path, textures_folder: Path, folder: Path) -> None:
    """`folder` as Hugging Face's CLIPModel has it: config, weights in half precision, tokenizer, preprocessing."""
    from safetensors.torch import save_file

    state = torch.load(saved, weights_only=True, map_location="cpu")
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in state["weights"].items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(state["config"], indent=1) + "\n", encoding="utf-8")
    (folder / "tokenizer.json").write_text((textures_folder / "tokenizer.json").read_text(encoding="utf-8"))
    preprocessing = {
        "crop_size": {"height": SIZE, "width": SIZE}, "size": {"shortest_edge": SIZE}, "resample": 3,
        "image_mean": [MEAN] * 3, "image_std": [DEVIATION] * 3, "image_processor_type": "CLIPImageProcessor",
        "do_resize": True, "do_center_crop": True, "do_rescale": True, "do_normalize": True,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=1) + "\n", encoding="utf-8")


@torch.no_grad()
def evaluate(folder: Path, *, count: int = LOOKED_AT, seed: int = 7) -> dict[str, float]:
    """Of captions of the starter world's own held-out scenes: whose picture is first, and among the first five."""
    from PIL import Image
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    net = Clip(Config.read(json.loads((folder / "config.json").read_text(encoding="utf-8")))).eval()
    net.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
    encode = Tokenizer.from_file(str(folder / "tokenizer.json")).encode_batch
    rng = np.random.default_rng(seed)
    pairs = [(t, c) for t in world.THINGS for c in world.COLOURS if world.held_out(t.name, c)]
    portraits = [
        world.portrait(pairs[i][0], pairs[i][1], rng, size=128) for i in rng.permutation(len(pairs))[: count // 2]
    ]
    others = [world.scene(9_000_000 + k, mode=("pair", "scatter")[k % 2]) for k in range(count - len(portraits))]
    results = {}
    for name, group in (
        ("all", portraits + others),
        ("portraits", portraits),
        ("pairs", others[::2]),
        ("scatters", others[1::2]),
    ):
        shown = np.stack(
            [np.asarray(Image.fromarray(s.picture).resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for s in group]
        )
        tokens = torch.tensor([e.ids for e in encode([s.caption for s in group])])
        pictures = torch.from_numpy(shown).permute(0, 3, 1, 2).float() / 255
        for first in (1, 5):
            results[f"{name}_within_{first}"] = round(found_within(net, pictures, tokens, first), 3)
    return results


def main() -> None:
    parser = budget.arguments(__doc__)
    parser.add_argument("--textures", type=Path, required=True)
    parser.add_argument("--photographs", type=Path, default=None)
    parser.add_argument("--tokenizer", action="store_true", help="write tokenizer.json beside the textures and stop")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument(
        "--export", type=Path, default=None, help="write the model of --out into this folder, measure it"
    )
    args = parser.parse_args()
    if args.export is not None:
        export(args.out, args.textures, args.export)
        budget.tell(json.dumps(evaluate(args.export), indent=1))
        return
    if args.tokenizer:
        tokenizer(scenes.Lexicon(textures.read(args.textures))).save(str(args.textures / "tokenizer.json"))
        return
    train(args)


if __name__ == "__main__":
    main()

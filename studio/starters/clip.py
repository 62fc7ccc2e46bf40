"""Recipe: the starter CLIP, two small towers that put pictures and words into one space.

    python -m studio.starters.clip --atlas everything.zip --out OUT --seconds 480

Pictures are composed on the device, captions state facts (`studio.starters.scenes`): a caption that is also true of
another picture of the batch does not count that as a counterexample.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from studio.nets.clip import Clip, Config, Tower
from studio.starters import atlas, budget, scenes, words
from studio.starters.composer import Composer
from studio.starters.stream import Read, Stream
from studio.train import world

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


def tokenizer() -> Any:
    """Byte pairs of lower-case words without accents; the last two of the vocabulary begin and end a text."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    made = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    made.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()])
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    made.decoder = decoders.BPEDecoder(suffix="</w>")
    rng, known = np.random.default_rng(0), scenes.lexicon()
    said = (scenes.draw(rng, scenes.SEEN).caption for _ in range(40_000))
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 2, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False
    )
    made.train_from_iterator(itertools.chain(said, known, map(words.plural, known)), trainer)
    missing = VOCABULARY - 2 - made.get_vocab_size()
    made.add_special_tokens([f"<unused{k}>" for k in range(missing)] + ["<start>", "<end>"])
    made.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", VOCABULARY - 2), ("<end>", VOCABULARY - 1)]
    )
    made.enable_truncation(LENGTH)
    made.enable_padding(pad_id=VOCABULARY - 1, pad_token="<end>", length=LENGTH)
    return made


def reader(spelling: str) -> Read:
    """Texts -> tokens (N, LENGTH), by what `tokenizer` wrote."""
    from tokenizers import Tokenizer

    encode = Tokenizer.from_str(spelling).encode_batch
    return lambda texts: np.array([found.ids for found in encode(list(texts))])


def members() -> Tensor:
    """Which things each word of the lexicon fits, bool (W, T)."""
    table = torch.zeros((len(scenes.lexicon()), len(words.things())), dtype=torch.bool)
    for row, fits in zip(table, scenes.lexicon().values(), strict=True):
        row[list(fits)] = True
    return table


@torch.no_grad()
def fitting(facts: Tensor, members: Tensor) -> Tensor:
    """Whether caption i is true of picture j, bool (B, B), as far as `scenes.facts` (B, F) tell."""
    things, tints, counts, word, tint, count = facts[:, :-3].view(len(facts), 6, scenes.SLOTS).unbind(1)
    colour, ground, relation = facts[:, -3:].unbind(1)
    found = torch.ones((len(facts),) * 2, dtype=torch.bool, device=facts.device)
    for m in range(scenes.SLOTS):
        said = word[:, m]
        same = members[said.clamp_min(0)][:, things.clamp_min(0)] & (things >= 0)  # (B, B, SLOTS)
        same &= (tint[:, m, None, None] < 0) | (tint[:, m, None, None] == tints)
        same &= (count[:, m, None, None] < 0) | (count[:, m, None, None] == counts)
        found &= (said < 0)[:, None] | same.any(2)
    found &= (ground[:, None] < 0) | (ground[:, None] == colour)
    return found & (relation <= 0)[:, None]


@torch.no_grad()
def photographed(pictures: Tensor) -> Tensor:
    """Small changes a camera or a codec makes, (B, 3, S, S) in 0..1: light, contrast, grain, a little blur."""
    one = torch.rand((4, len(pictures), 1, 1, 1), device=pictures.device)
    soft = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.where(one[0] < 0.2, soft, pictures)
    x = (x - 0.5) * (0.85 + 0.3 * one[1]) + 0.5 + (one[2] - 0.5) * 0.12
    return (x + torch.randn_like(x) * 0.03 * one[3]).clamp(0, 1)


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


def train(given: Any, batch: int = 512, rate: float = 1e-3, workers: int = 3) -> Path:
    """Trains as `budget.arguments` says and writes `out`/clip.pt and `out`/tokenizer.json."""
    batch, workers = (8, 0) if given.tiny else (batch, workers)
    journal, path, spelled = budget.Journal(given.out / "clip.log"), given.out / "clip.pt", given.out / "tokenizer.json"
    if not spelled.is_file():
        tokenizer().save(str(spelled))
    read = functools.partial(reader, spelled.read_text(encoding="utf-8"))
    stream = Stream(read, scenes.SEEN, workers=workers, count=batch, seed=given.seed)
    first = stream.take(batch)  # the workers have begun before a GPU is touched
    device = budget.prepare(given.device, given.seed)
    composer = Composer(atlas.read(given.atlas), (), device, seed=given.seed)
    known, net = members().to(device), Clip(config()).to(device)
    looked, _, looked_tokens = Stream(read, scenes.SEEN, count=LOOKED_AT, seed=given.seed + 999).take(LOOKED_AT)
    seen, spoken = composer.paint(looked, SIZE), torch.from_numpy(looked_tokens).to(device)

    def descent(progress: float, share: float) -> tuple[Tensor, Mapping[str, Tensor], int]:
        nonlocal first
        drawn, told, tokens = first or stream.take(max(2, round(batch * share)))
        first = None  # type: ignore[assignment]
        with torch.no_grad():
            pictures = normalised(photographed(composer.paint(drawn, SIZE)))
            fits = fitting(torch.from_numpy(told).long().to(device), known)
        with budget.fast(device):
            wrong = loss(net, pictures, torch.from_numpy(tokens).to(device), fits)
        return wrong, {}, len(tokens)

    def keep() -> None:
        budget.save({"weights": budget.half(net.state_dict()), "config": config().write()}, path)

    def measure() -> str:
        return "  ".join(f"within {n} {found_within(net, seen, spoken, n):.3f}" for n in (1, 5))

    plan = budget.Budget(given.seconds, rate=rate, weight_decay=0.1, warmup=400, ema=0.999, steps=given.steps)
    guard = budget.Guard("CLIP", 0.95 * math.log(batch))  # of a network that finds all pairs equally likely
    budget.descend(net, descent, plan, journal, keep, measure, guard=guard)
    return path


def export(saved: Path, spelled: Path, folder: Path) -> None:
    """`folder` as Hugging Face's CLIPModel has it: config, weights in half precision, tokenizer, preprocessing."""
    from safetensors.torch import save_file

    state = torch.load(saved, weights_only=True, map_location="cpu")
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in state["weights"].items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(state["config"], indent=1) + "\n", encoding="utf-8")
    (folder / "tokenizer.json").write_text(spelled.read_text(encoding="utf-8"))
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
    parser.add_argument("--export", type=Path, help="write the model of OUT/clip.pt into this folder, measure it, stop")
    given = parser.parse_args()
    if given.export is not None:
        export(given.out / "clip.pt", given.out / "tokenizer.json", given.export)
        print(json.dumps(evaluate(given.export), indent=1))  # noqa: T201 - a command's answer
        return
    train(given)


if __name__ == "__main__":
    main()

"""CLIP's tokenizer as the text encoder wants it, by the `tokenizers` package alone: no torch, no transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from studio.errors import IntegrityError

START, END = "<|startoftext|>", "<|endoftext|>"
SPLIT = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class ClipTokenizer:
    """Text to numbers.

    Args:
        folder: the model's tokenizer folder: `tokenizer.json`, or `vocab.json` with `merges.txt`.
        limit: most tokens the text encoder reads; a smaller limit of the folder's own counts.

    Raises IntegrityError where the files are missing or damaged.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        config = _read(folder / "tokenizer_config.json", {})
        own = int(min(float(config.get("model_max_length", limit)), 10**9))
        self.limit = min(own, limit)
        self._tokenizer = _load(folder)
        self._end = self._id(END, folder)
        pad = config.get("pad_token", _read(folder / "special_tokens_map.json", {}).get("pad_token", END))
        text = pad.get("content", END) if isinstance(pad, dict) else str(pad)
        found = self._tokenizer.token_to_id(text)
        self._pad = self._end if found is None else int(found)

    def __call__(self, text: str) -> NDArray[np.int64]:
        """int64 (1, limit): start, text, end, padding. What is too long is cut."""
        ids = self._tokenizer.encode(text).ids
        if len(ids) > self.limit:
            ids = [*ids[: self.limit - 1], self._end]
        return np.array([ids + [self._pad] * (self.limit - len(ids))], np.int64)

    def words_cut(self, text: str) -> int:
        """How many words at the end of a text are cut."""
        ids = self._tokenizer.encode(text).ids
        if len(ids) <= self.limit:
            return 0
        return max(1, len(self._decode(ids[self.limit - 1 : -1]).split()))

    def _decode(self, ids: list[int]) -> str:
        pieces = (self._tokenizer.id_to_token(id_) or "" for id_ in ids)
        return "".join(pieces).replace("</w>", " ")

    def _id(self, token: str, folder: Path) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise IntegrityError(f"The tokenizer in {folder.name} lacks {token}.", "Download the model again.")
        return int(found)


def _load(folder: Path) -> Tokenizer:
    whole, vocabulary, merges = folder / "tokenizer.json", folder / "vocab.json", folder / "merges.txt"
    try:
        if whole.is_file():
            found = Tokenizer.from_file(str(whole))
            found.no_padding()
            found.no_truncation()
            return found
        return _from_merges(vocabulary, merges)
    except Exception as error:  # the library raises bare Exception for every kind of damage
        raise IntegrityError(f"The tokenizer in {folder.name} cannot be read.", "Download the model again.") from error


def _from_merges(vocabulary: Path, merges: Path) -> Tokenizer:
    """The published layout, put together as transformers does."""
    table: dict[str, int] = json.loads(vocabulary.read_text(encoding="utf-8"))
    lines = merges.read_text(encoding="utf-8").strip().split("\n")
    pairs = [(left, right) for left, _, right in (line.partition(" ") for line in lines if " " in line)]
    if lines and lines[0].startswith("#version"):
        pairs = pairs[1:]
    model = models.BPE(
        vocab=table,
        merges=pairs,
        unk_token=END,
        continuing_subword_prefix="",
        end_of_word_suffix="</w>",
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(  # type: ignore[assignment]
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.post_processor = processors.RobertaProcessing(  # type: ignore[assignment]
        (END, table[END]), (START, table[START]), trim_offsets=False, add_prefix_space=False
    )
    tokenizer.add_special_tokens([START, END])
    return tokenizer


def _read(file: Path, default: dict[str, Any]) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return default
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{file.name} is damaged: {error}.", "Download the model again.") from error
    return found if isinstance(found, dict) else default

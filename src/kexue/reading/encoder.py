"""Masked language models, our own and those of Hugging Face, with their vocabularies."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from kexue.data import UNKNOWN, Vocabulary
from kexue.nn import checks
from kexue.nn.attention import Block, KeyValues
from kexue.nn.sequences import PAD

BLANK = "＿"
"""Stands in a cloze question for what is asked."""


@runtime_checkable
class Tokens(Protocol):
    """What an encoder's vocabulary can do."""

    pad: int
    unknown: int
    start: int
    """[CLS]"""
    end: int
    """[SEP]"""
    mask: int
    """[MASK]"""

    def __len__(self) -> int:
        """How many ids there are."""

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids of a text, and which characters each stands for."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""


class Characters:
    """Characters as tokens: 0 pads, 1 is unknown, 2 [CLS], 3 [SEP], 4 [MASK], 5 the blank, then come others.

    Args:
        texts: where characters are counted.
        at_least: rarer ones are unknown.

    Raises TypeError for texts that are not made of strings, or an `at_least` that is no int, and ValueError
    for one below 1.
    """

    pad, unknown, start, end, mask, blank = PAD, UNKNOWN, 2, 3, 4, 5
    _special = 4

    def __init__(self, texts: Iterable[str], at_least: int = 1) -> None:
        known = Vocabulary(texts, at_least)
        special = ("", "\N{REPLACEMENT CHARACTER}", "[CLS]", "[SEP]", "[MASK]", BLANK)
        self.symbols = (*special, *(one for one in known.symbols if one != BLANK))
        self._ids = {symbol: i for i, symbol in enumerate(self.symbols) if i > self._special}

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """An id for each character."""
        checks.instance("text", text, str, "a string")
        return [self._ids.get(one, UNKNOWN) for one in text], [(i, i + 1) for i in range(len(text))]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; what is unknown becomes U+FFFD, and padding nothing.

        Raises ValueError for an id outside 0 … V − 1.
        """
        if outside := [one for one in ids if not 0 <= one < len(self.symbols)]:
            raise ValueError(f"ids must lie within 0 … {len(self.symbols) - 1}, got {outside[0]}")
        return "".join(self.symbols[one] for one in ids)


class Encoder(Protocol):
    """What a reader needs of a masked language model."""

    vocabulary: Any
    max_length: int
    """Of what it reads, in tokens."""

    def __call__(self, ids: Tensor, mask: Tensor | None = None, keep: slice = slice(None)) -> Tensor:
        """Logits (B, T, V) of the tokens that are kept."""


class MaskedLM(nn.Module):
    """A small BERT: rotary positions, norms in front, and the embedding again as the output layer.

    Args:
        vocab_size: ids, V.
        hidden_size: of all vectors.
        num_heads: of the attentions; hidden_size/num_heads must be even.
        num_layers: Transformer blocks.
        dropout: in training.
        max_length: tokens that are read at once.
        vocabulary: with `vocab_size` ids; what a reader encodes texts with.

    Raises:
        TypeError: a size that is no int.
        ValueError: a size below 1, heads that do not divide the width into even sizes, dropout outside
            [0, 1), or a vocabulary of another size.
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int = 160,
        num_heads: int = 5,
        num_layers: int = 4,
        dropout: float = 0.0,
        max_length: int = 512,
        vocabulary: Tokens | None = None,
    ) -> None:
        super().__init__()
        checks.count("vocab_size", vocab_size, 1)
        checks.heads(hidden_size, num_heads, rotary=True)
        checks.count("num_layers", num_layers, 1)
        checks.count("max_length", max_length, 1)
        if vocabulary is not None and len(vocabulary) != vocab_size:
            raise ValueError(f"vocabulary must have vocab_size = {vocab_size} ids, got {len(vocabulary)}")
        self.vocabulary, self.max_length, self.hidden_size = vocabulary, max_length, hidden_size
        self.embedding = nn.Embedding(vocab_size, hidden_size)
        nn.init.normal_(self.embedding.weight, std=hidden_size**-0.5)
        self.blocks = nn.ModuleList(Block(hidden_size, num_heads, None, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(hidden_size)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def states(
        self,
        ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "batch _ keys"] | None = None,
        past: Sequence[KeyValues] | None = None,
        keep: slice = slice(None),
    ) -> tuple[Float[Tensor, "batch kept hidden"], list[KeyValues]]:
        """The last layer's vectors, and keys and values for a call that goes on.

        Args:
            ids: those of `vocabulary`; 0 pads.
            mask: (B, T or 1, T), True where a token may look at another; not at padding, if None.
            past: the second result of an earlier call; `mask` is then about its tokens and the new ones.
            keep: whose vectors are wanted.

        Raises:
            TypeError: ids are no integers.
            ValueError: ids are not (B, T), or outside 0 … V − 1; more than `max_length` tokens, or a past
                without a mask.
        """
        checks.integers("ids", ids)
        if ids.ndim != 2:
            raise ValueError(f"ids must have shape (B, T), got {tuple(ids.shape)}")
        ids = ids.long()  # an embedding takes no narrower ones
        before = past[0].length if past else 0
        if before + ids.shape[1] > self.max_length:
            raise ValueError(
                f"ids must be at most max_length = {self.max_length} tokens, got {before + ids.shape[1]}"
            )
        vocab_size = self.embedding.num_embeddings
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < vocab_size:
            raise ValueError(
                f"ids must lie within 0 … {vocab_size - 1}, got {int(ids.min())} … {int(ids.max())}"
            )
        if mask is None:
            if past:
                raise ValueError("mask must be given where past is, got None")
            mask = (ids != PAD)[:, None]
        positions = torch.arange(before, before + ids.shape[1], device=ids.device)
        h, kept = self.embedding(ids) * self.hidden_size**0.5, []
        for i, block in enumerate(self.blocks):
            some = keep if i == len(self.blocks) - 1 else slice(None)
            h, known = block(h, mask[:, None], positions, past[i] if past else None, some)
            kept.append(known)
        return self.norm(h), kept

    def logits(self, states: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch vocabulary"]:
        """Logits of the tokens whose vectors these are."""
        return nn.functional.linear(states, self.embedding.weight, self.bias)

    def forward(
        self,
        ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "batch _ length"] | None = None,
        keep: slice = slice(None),
    ) -> Float[Tensor, "batch kept vocabulary"]:
        """Logits of each token of the sequence, or of those that are kept; arguments as in `states`."""
        return self.logits(self.states(ids, mask, keep=keep)[0])


class _HuggingFaceTokens:
    """The vocabulary of a Hugging Face tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        if not tokenizer.is_fast:
            raise ValueError("tokenizer must be a fast one, which knows where in the text its tokens are")
        self.tokenizer = tokenizer
        self.pad, self.unknown = tokenizer.pad_token_id, tokenizer.unk_token_id
        self.start, self.end = tokenizer.cls_token_id, tokenizer.sep_token_id
        self.mask = tokenizer.mask_token_id

    def __len__(self) -> int:
        return len(self.tokenizer)

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        found = self.tokenizer(
            text,
            add_special_tokens=False,
            split_special_tokens=True,  # "[SEP]" in a text is text
            return_offsets_mapping=True,
            verbose=False,
        )
        return found["input_ids"], found["offset_mapping"]

    def decode(self, ids: Sequence[int]) -> str:
        # Word pieces of Chinese are characters, which the tokenizer would set apart with spaces.
        pieces = self.tokenizer.convert_ids_to_tokens(list(ids))
        text = ""
        for piece in pieces:
            joined = piece.startswith("##")
            between = not joined and re.search(r"[A-Za-z0-9]$", text) and re.match(r"[A-Za-z0-9]", piece)
            text += (" " if between else "") + (piece[2:] if joined else piece)
        return text


class HuggingFaceEncoder(nn.Module):
    """A BERT of Hugging Face's transformers as an `Encoder`: for a real, pretrained one.

    Padding may be on either side: positions count the tokens that are real.

    Args:
        name_or_folder: of a BertForMaskedLM and its tokenizer, as `from_pretrained` has it; its weights must
            be there as safetensors, which hold nothing but numbers.
        revision: of what is downloaded, a commit, so that it is the same the next time.

    Raises OSError where there is none of that name, and ValueError for a tokenizer without offsets.
    """

    def __init__(self, name_or_folder: str | Path, revision: str | None = None) -> None:
        from transformers import AutoTokenizer, BertForMaskedLM  # belongs to the extra "book"

        super().__init__()
        options: dict[str, Any] = {} if revision is None else {"revision": revision}
        self.bert = BertForMaskedLM.from_pretrained(str(name_or_folder), use_safetensors=True, **options)
        self.vocabulary = _HuggingFaceTokens(AutoTokenizer.from_pretrained(str(name_or_folder), **options))
        self.max_length: int = self.bert.config.max_position_embeddings

    def forward(
        self,
        ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "batch _ length"] | None = None,
        keep: slice = slice(None),
    ) -> Float[Tensor, "batch kept vocabulary"]:
        """Logits of the tokens that are kept, for the vocabulary's ids; `mask` as in `MaskedLM.states`."""
        real = ids != self.vocabulary.pad
        if mask is None:
            mask = real[:, None]
        # A row that sees nothing must see something: softmax of nothing is NaN. Only padding is such a row.
        mask = mask.expand(-1, ids.shape[1], -1) | torch.eye(
            ids.shape[1], dtype=torch.bool, device=ids.device
        )
        positions = (real.cumsum(1) - 1).clamp(min=0)
        h = self.bert.bert(ids, attention_mask=mask[:, None], position_ids=positions).last_hidden_state
        return self.bert.cls(h[:, keep])[..., : len(self.vocabulary)]

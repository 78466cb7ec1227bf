"""Reading comprehension that fills in all of an answer at once, and what independence costs.

Source: 苏剑林, 《“非自回归”也不差：基于MLM的阅读理解问答》, https://kexue.fm/archives/7148, and its
autoregressive counterpart, https://kexue.fm/archives/7115. The ids in brackets (reading.eq2) are rows of the
ledger.

A reader is a head on an encoder, a masked language model that is called as `encoder(ids, mask)` and carries
its vocabulary. `MLMReader` puts masks beside question and passage and fills them all at once;
`Seq2SeqReader` writes the answer token by token on the same encoder. Both give log p(answer | passage,
question), the end mark included, and decode it freely or within the passage.

Bad input raises `TypeError` for a wrong type and `ValueError` for a value outside the domain; the message
names the argument and the value.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, cast, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from kexue import checks
from kexue.data import PADDING, UNKNOWN, Source, TaggedText, Vocabulary
from kexue.transformer import Block, KeyValues, causal_mask

# --- The encoder -------------------------------------------------------------------------------

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

    Raises TypeError for an `at_least` that is no int, and ValueError for one below 1.
    """

    pad, unknown, start, end, mask, blank = PADDING, UNKNOWN, 2, 3, 4, 5
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
        return [self._ids.get(one, UNKNOWN) for one in text], [(i, i + 1) for i in range(len(text))]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; what is unknown becomes U+FFFD, and padding nothing."""
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
        width: of all vectors.
        heads: of the attentions; width/heads must be even.
        layers: Transformer blocks.
        dropout: in training.
        max_length: tokens that are read at once.
        vocabulary: with `vocab_size` ids; what a reader encodes texts with.

    Raises:
        TypeError: a size that is no int.
        ValueError: a size below 1, heads that do not divide width into even sizes, dropout outside [0, 1),
            or a vocabulary of another size.
    """

    def __init__(
        self,
        vocab_size: int,
        width: int = 160,
        heads: int = 5,
        layers: int = 4,
        dropout: float = 0.0,
        max_length: int = 512,
        vocabulary: Tokens | None = None,
    ) -> None:
        super().__init__()
        for name, value in (
            ("vocab_size", vocab_size),
            ("width", width),
            ("heads", heads),
            ("layers", layers),
            ("max_length", max_length),
        ):
            checks.count(name, value, 1)
        if width % (2 * heads):
            raise ValueError(f"heads must divide width = {width} into even sizes, got {heads}")
        if vocabulary is not None and len(vocabulary) != vocab_size:
            raise ValueError(f"vocabulary must have vocab_size = {vocab_size} ids, got {len(vocabulary)}")
        self.vocabulary, self.max_length, self.width = vocabulary, max_length, width
        self.embedding = nn.Embedding(vocab_size, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.blocks = nn.ModuleList(Block(width, heads, None, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def states(
        self,
        ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "batch _ keys"] | None = None,
        past: Sequence[KeyValues] | None = None,
        keep: slice | None = None,
    ) -> tuple[Float[Tensor, "batch kept width"], list[KeyValues]]:
        """The last layer's vectors, and keys and values for a call that goes on.

        Args:
            ids: those of `vocabulary`; 0 pads.
            mask: (B, T or 1, T), True where a token may look at another; not at padding, if None.
            past: the second result of an earlier call; `mask` is then about its tokens and the new ones.
            keep: whose vectors are wanted; all, if None.

        Raises ValueError for ids outside 0 … V − 1, more than `max_length` tokens, or a past without a mask.
        """
        before = 0 if past is None else past[0].keys.shape[-2]
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
            if past is not None:
                raise ValueError("mask must be given where past is, got None")
            mask = (ids != PADDING)[:, None]
        positions = torch.arange(before, before + ids.shape[1], device=ids.device)
        h, kept = self.embedding(ids) * self.width**0.5, []
        for i, block in enumerate(self.blocks):
            last = i == len(self.blocks) - 1
            before_this = None if past is None else past[i]
            h, known = block(h, mask[:, None], positions, before_this, keep if last else None)
            kept.append(known)
        return self.norm(h), kept

    def logits(self, states: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch vocabulary"]:
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
        self.start, self.end, self.mask = (
            tokenizer.cls_token_id,
            tokenizer.sep_token_id,
            tokenizer.mask_token_id,
        )

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
        name_or_folder: of a BertForMaskedLM and its tokenizer, as `from_pretrained` has it.

    Raises OSError where there is none of that name, and ValueError for a tokenizer without offsets.
    """

    def __init__(self, name_or_folder: str | Path) -> None:
        from transformers import AutoTokenizer, BertForMaskedLM  # belongs to the extra "book"

        super().__init__()
        self.bert = BertForMaskedLM.from_pretrained(str(name_or_folder))
        self.vocabulary = _HuggingFaceTokens(AutoTokenizer.from_pretrained(str(name_or_folder)))
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


# --- Readers -----------------------------------------------------------------------------------


@runtime_checkable
class Question(Protocol):
    """What a reader is trained on."""

    @property
    def passage(self) -> str:
        """Where the answer is."""

    @property
    def question(self) -> str:
        """What is asked."""

    @property
    def answer(self) -> str:
        """What is to be said."""


class Answer(NamedTuple):
    """What a reader says."""

    text: str
    score: float
    """Mean of the probabilities of its steps, the end mark included, as in the script (reading.decode)."""


class _Spans:
    """The spans of each passage that begin with what has been written; who may go on, and with what."""

    def __init__(self, passages: Int[Tensor, "batch length"], pad: int) -> None:
        self.rest, self.pad = passages, pad
        self.alive = passages != pad
        """By the place where a span begins."""

    def allowed(self, vocab_size: int) -> Bool[Tensor, "batch vocabulary"]:
        """Which tokens continue a span."""
        open_ = self.alive & (self.rest != self.pad)
        found = torch.zeros(len(self.rest), vocab_size, dtype=torch.bool, device=self.rest.device)
        return found.scatter_(1, self.rest.masked_fill(~open_, self.pad), True).index_fill_(
            1, torch.tensor([self.pad], device=self.rest.device), False
        )

    def choose(self, tokens: Int[Tensor, " batch"], goes_on: Bool[Tensor, " batch"]) -> None:
        """Go on with these tokens, where the answer has not ended."""
        moved = torch.nn.functional.pad(self.rest[:, 1:], (0, 1), value=self.pad)
        alive = self.alive & (self.rest == tokens[:, None])
        self.alive = torch.where(goes_on[:, None], alive, self.alive)
        self.rest = torch.where(goes_on[:, None], moved, self.rest)

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Only those rows, in that order."""
        self.rest, self.alive = self.rest[rows], self.alive[rows]


class _Written(NamedTuple):
    tokens: Int[Tensor, "batch steps"]
    """Padded."""
    score: Float[Tensor, " batch"]
    spans: _Spans | None


class _Piece(NamedTuple):
    """A passage, or the part of it that fits the window."""

    row: int
    ids: list[int]
    offsets: list[tuple[int, int]]


_AnyReader = TypeVar("_AnyReader", bound="_Reader")  # not Self, which beartype does not know in a method


class _Reader(nn.Module):
    """What both readers share: texts to tokens, windows, and answers back to texts."""

    def __init__(self, encoder: nn.Module, max_answer_length: int) -> None:
        super().__init__()
        checks.count("max_answer_length", max_answer_length, 1)
        vocabulary = getattr(encoder, "vocabulary", None)
        if not isinstance(vocabulary, Tokens):
            raise ValueError(f"encoder must carry a vocabulary, got {vocabulary!r}")
        self.encoder, self.max_answer_length = encoder, max_answer_length
        self.vocabulary: Tokens = vocabulary
        forbidden = torch.zeros(len(vocabulary), dtype=torch.bool)
        forbidden[[vocabulary.pad, vocabulary.start, vocabulary.mask]] = True
        self.forbidden: Tensor
        self.register_buffer("forbidden", forbidden, persistent=False)

    @classmethod
    def from_pretrained(
        cls: type[_AnyReader], name_or_folder: str | Path, max_answer_length: int = 32
    ) -> _AnyReader:
        """The head on a pretrained BERT of Hugging Face's; see `HuggingFaceEncoder`."""
        return cls(HuggingFaceEncoder(name_or_folder), max_answer_length)

    @property
    def device(self) -> torch.device:
        return self.forbidden.device

    def loss(self, batch: Sequence[Question]) -> Float[Tensor, ""]:
        """Mean of −log p(answer | passage, question) over the batch, in nats per answer.

        Raises ValueError for an empty batch, or what `log_prob` raises.
        """
        if not batch:
            raise ValueError("batch must hold at least one question, got none")
        texts = zip(*((one.passage, one.question, one.answer) for one in batch), strict=True)
        return -self.log_prob(*map(list, texts)).mean()

    def log_prob(
        self, passages: Sequence[str], questions: Sequence[str], answers: Sequence[str]
    ) -> Float[Tensor, " batch"]:
        """log p(answer | passage, question), the end mark included, in nats (reading.eq1, reading.eq2).

        Raises TypeError for texts that are no strings, and ValueError for unequal numbers, an empty text, an
        answer of more than `max_answer_length` tokens, or a passage and question that do not fit the encoder
        at once.
        """
        chosen, real = self.token_log_probs(passages, questions, answers)
        return chosen.masked_fill(~real, 0.0).sum(1)

    def token_log_probs(
        self, passages: Sequence[str], questions: Sequence[str], answers: Sequence[str]
    ) -> tuple[Float[Tensor, "batch steps"], Bool[Tensor, "batch steps"]]:
        """log p of an answer's tokens and its end mark, (B, max_answer_length + 1), and which are real."""
        target = self.targets(answers)
        pieces, asked = self._encode(passages, questions, windows=False)
        if len(answers) != len(passages):
            raise ValueError(f"answers must be as many as passages, {len(passages)}, got {len(answers)}")
        log_probs = self._target_log_probs([one.ids for one in pieces], asked, target)
        real = target != self.vocabulary.pad
        return log_probs.gather(-1, target[..., None]).squeeze(-1), real

    def candidate_log_probs(
        self, passages: Sequence[str], questions: Sequence[str], candidates: Sequence[Sequence[str]]
    ) -> list[Float[Tensor, " candidates"]]:
        """`log_prob` of several answers to each question, which is read once.

        Raises ValueError for unequal numbers, a question without a candidate, or what `log_prob` raises.
        """
        pieces, asked = self._encode(passages, questions, windows=False)
        for several in candidates:
            _check_texts("candidates", several)
        if len(candidates) != len(passages):
            raise ValueError(
                f"candidates must be as many as passages, {len(passages)}, got {len(candidates)}"
            )
        if missing := [row for row, several in enumerate(candidates) if not several]:
            raise ValueError(f"candidates must hold at least one for each question, got none at {missing[0]}")
        counts = [len(several) for several in candidates]
        target = self.targets([one for several in candidates for one in several])
        rows = torch.arange(len(passages), device=self.device).repeat_interleave(
            torch.tensor(counts, device=self.device)
        )
        log_probs = self._candidate_log_probs([one.ids for one in pieces], asked, rows, target)
        chosen = log_probs.gather(-1, target[..., None]).squeeze(-1)
        return list(chosen.masked_fill(target == self.vocabulary.pad, 0.0).sum(1).split(counts))

    def targets(self, answers: Sequence[str]) -> Int[Tensor, "batch steps"]:
        """The ids of answers, the end mark after them, then padding: what the masks are to become."""
        _check_texts("answers", answers)
        rows = []
        for answer in answers:
            ids, _ = self.vocabulary.encode(answer)
            if not 1 <= len(ids) <= self.max_answer_length:
                raise ValueError(
                    f"answers must have 1 to max_answer_length = {self.max_answer_length} tokens, "
                    f"got {answer!r} with {len(ids)}"
                )
            rows.append([*ids, self.vocabulary.end])
        return self._padded(rows, self.max_answer_length + 1)

    def answer(
        self,
        passages: Sequence[str],
        questions: Sequence[str],
        constrain: bool = True,
        *,
        batch_size: int = 64,
        **options: Any,
    ) -> list[Answer]:
        """What the reader says to each question.

        A passage that does not fit the encoder is cut into windows that overlap by half, and the answer with
        the highest score wins.

        Args:
            passages: one for each question.
            questions: as texts.
            constrain: only spans of the passage are answers, as in the article's script (reading.decode).
            batch_size: windows that are read together.
            options: of the head; see there.

        Raises:
            TypeError: texts that are no strings.
            ValueError: unequal numbers, an empty passage or question, or a question that leaves no room.
        """
        checks.count("batch_size", batch_size, 1)
        pieces, asked = self._encode(passages, questions, windows=True)
        best: dict[int, Answer] = {}
        modes = {module: module.training for module in self.modules()}
        self.eval()
        try:
            with torch.no_grad():
                for begin in range(0, len(pieces), batch_size):
                    some = pieces[begin : begin + batch_size]
                    written = self._write(
                        [one.ids for one in some], [asked[one.row] for one in some], constrain, **options
                    )
                    for piece, found in zip(some, self._texts(some, passages, written), strict=True):
                        if piece.row not in best or found.score > best[piece.row].score:
                            best[piece.row] = found
        finally:
            for module, training in modes.items():
                module.training = training
        return [best[row] for row in range(len(passages))]

    def _target_log_probs(
        self, passages: list[list[int]], questions: list[list[int]], target: Tensor
    ) -> Tensor:
        raise NotImplementedError

    def _candidate_log_probs(
        self, passages: list[list[int]], questions: list[list[int]], rows: Tensor, target: Tensor
    ) -> Tensor:
        """The same for targets of these rows' questions."""
        chosen = rows.tolist()
        return self._target_log_probs([passages[i] for i in chosen], [questions[i] for i in chosen], target)

    def _write(self, *args: Any, **options: Any) -> _Written:
        """Answers to encoded passages and questions, constrained or not."""
        raise NotImplementedError

    def _encode(
        self, passages: Sequence[str], questions: Sequence[str], windows: bool
    ) -> tuple[list[_Piece], list[list[int]]]:
        """Passages, in windows where they are long, and questions, as ids."""
        for name, texts in (("passages", passages), ("questions", questions)):
            _check_texts(name, texts)
        if len(passages) != len(questions) or not passages:
            raise ValueError(
                "questions must be as many as passages, at least one, "
                f"got {len(questions)} and {len(passages)}"
            )
        pieces, asked = [], []
        longest = cast(Encoder, self.encoder).max_length
        for row, (passage, question) in enumerate(zip(passages, questions, strict=True)):
            (ids, offsets), (question_ids, _) = map(self.vocabulary.encode, (passage, question))
            for name, text, tokens in (("passages", passage, ids), ("questions", question, question_ids)):
                if not tokens:
                    raise ValueError(f"{name} must not be empty, got {text!r} at {row}")
            # [CLS] answer and end [SEP] question [SEP] passage [SEP]
            room = longest - self.max_answer_length - len(question_ids) - 5
            if room < 1 or (len(ids) > room and not windows):
                raise ValueError(
                    f"a passage and a question must fit the encoder's {longest} tokens "
                    f"beside an answer of {self.max_answer_length}, "
                    f"got {len(ids)} and {len(question_ids)} at {row}"
                )
            asked.append(question_ids)
            begin = 0
            while True:
                part = slice(begin, begin + room)
                pieces.append(_Piece(row, ids[part], offsets[part]))
                if begin + room >= len(ids):
                    break
                begin += max(1, room // 2)
        return pieces, asked

    def _padded(self, rows: Sequence[Sequence[int]], length: int | None = None, left: bool = False) -> Tensor:
        longest = max(map(len, rows)) if length is None else length
        pad = self.vocabulary.pad
        filled = [
            [*[pad] * (longest - len(row)), *row] if left else [*row, *[pad] * (longest - len(row))]
            for row in rows
        ]
        return torch.tensor(filled, device=self.device)

    def _possible(self, log_probs: Tensor) -> Tensor:
        """−∞ for what no answer holds."""
        return log_probs.masked_fill(self.forbidden, -torch.inf)

    def _texts(
        self, pieces: Sequence[_Piece], passages: Sequence[str], written: _Written
    ) -> Iterator[Answer]:
        end, pad = self.vocabulary.end, self.vocabulary.pad
        for row, (piece, tokens, score) in enumerate(
            zip(pieces, written.tokens.tolist(), written.score.tolist(), strict=True)
        ):
            ids = [one for one in tokens if one not in (end, pad)]
            if written.spans is None:
                yield Answer(self.vocabulary.decode(ids), score)
            else:  # as it stands in the passage, whatever the vocabulary knows
                begin = int(written.spans.alive[row].int().argmax())
                first, last = piece.offsets[begin][0], piece.offsets[begin + len(ids) - 1][1]
                yield Answer(passages[piece.row][first:last], score)


def _check_texts(name: str, texts: object) -> None:
    several = isinstance(texts, Sequence) and not isinstance(texts, str)
    if not several or not all(isinstance(one, str) for one in cast(Sequence[object], texts)):
        raise TypeError(f"{name} must be a list of strings, got {texts!r:.80}")


class MLMReader(_Reader):
    """Fills in all tokens of the answer at once, independently: p(A|Q) = Π p(aₖ|Q) (reading.eq2).

    It reads [CLS], max_answer_length + 1 masks, [SEP], question, [SEP], passage, [SEP]. The masks are to
    become the answer and then [SEP]; what the masks behind it become does not count (reading.input).

    Args:
        encoder: a masked language model that carries its vocabulary, such as `MaskedLM`.
        max_answer_length: tokens of the longest answer, without the end mark.

    Raises:
        TypeError: max_answer_length is no int.
        ValueError: max_answer_length below 1, or an encoder without a vocabulary.
    """

    def __init__(self, encoder: nn.Module, max_answer_length: int) -> None:
        super().__init__(encoder, max_answer_length)

    def inputs(
        self,
        passages: Sequence[Sequence[int]],
        questions: Sequence[Sequence[int]],
        answers: Int[Tensor, "batch steps"] | None = None,
    ) -> Int[Tensor, "batch length"]:
        """What the encoder reads; with `answers`, in the place of masks (see `predict`)."""
        start, end, mask = self.vocabulary.start, self.vocabulary.end, self.vocabulary.mask
        steps = self.max_answer_length + 1
        ids = self._padded(
            [
                [start, *[mask] * steps, end, *question, end, *passage, end]
                for passage, question in zip(passages, questions, strict=True)
            ]
        )
        if answers is not None:
            ids[:, 1 : 1 + steps] = answers
        return ids

    def predict(self, ids: Int[Tensor, "batch length"]) -> Float[Tensor, "batch steps vocabulary"]:
        """Log-probabilities of every token in each of the masks' places, given `inputs`."""
        keep = slice(1, self.max_answer_length + 2)
        mask = (ids != self.vocabulary.pad)[:, None]
        return checks.working(self.encoder(ids, mask, keep)).log_softmax(-1)

    def refinement_loss(
        self, batch: Sequence[Question], revealed: Bool[Tensor, "batch steps"]
    ) -> Float[Tensor, ""]:
        """`loss` where some of the answer is shown: what Mask-Predict's later passes need to have learned.

        Args:
            batch: questions.
            revealed: (B, max_answer_length + 1), True where a token of the answer, or its end mark, is shown.
                The others count.

        Raises ValueError for a `revealed` of another shape, or what `loss` raises.
        """
        if not batch:
            raise ValueError("batch must hold at least one question, got none")
        if revealed.shape != (wanted := (len(batch), self.max_answer_length + 1)):
            raise ValueError(f"revealed must have shape {wanted}, got {tuple(revealed.shape)}")
        passages, questions, answers = zip(
            *((one.passage, one.question, one.answer) for one in batch), strict=True
        )
        target = self.targets(answers)
        pieces, asked = self._encode(passages, questions, windows=False)
        shown = revealed.to(self.device) & (target != self.vocabulary.pad)
        ids = self.inputs(
            [one.ids for one in pieces], asked, torch.where(shown, target, self.vocabulary.mask)
        )
        chosen = self.predict(ids).gather(-1, target[..., None]).squeeze(-1)
        counts = (target != self.vocabulary.pad) & ~shown
        return -chosen.masked_fill(~counts, 0.0).sum(1).mean()

    def _target_log_probs(
        self, passages: list[list[int]], questions: list[list[int]], target: Tensor
    ) -> Tensor:
        return self.predict(self.inputs(passages, questions))

    def _candidate_log_probs(
        self, passages: list[list[int]], questions: list[list[int]], rows: Tensor, target: Tensor
    ) -> Tensor:
        return self.predict(self.inputs(passages, questions))[rows]

    def _write(
        self,
        passages: list[list[int]],
        questions: list[list[int]],
        constrain: bool,
        passes: int = 1,
    ) -> _Written:
        """Greedy, place by place; with `passes` > 1, Mask-Predict."""
        checks.count("passes", passes, 1)
        if passes > 1 and constrain:
            raise ValueError(f"passes must be 1 where constrain is True, got {passes}")
        end, pad, mask = self.vocabulary.end, self.vocabulary.pad, self.vocabulary.mask
        log_probs = self._possible(self.predict(self.inputs(passages, questions)))
        steps = log_probs.shape[1]
        spans = _Spans(self._padded(passages), pad) if constrain else None
        goes_on = torch.ones(len(passages), dtype=torch.bool, device=self.device)
        tokens, chosen = [], []
        for step in range(steps):
            here = log_probs[:, step]
            if spans is not None:
                allowed = spans.allowed(here.shape[1])
                allowed[:, end] = step > 0
                here = here.masked_fill(~allowed, -torch.inf)
            if step == steps - 1:  # no room for more
                here = torch.full_like(here, -torch.inf).index_copy(
                    1, torch.tensor([end], device=self.device), log_probs[:, step, end, None]
                )
            value, token = here.max(-1)
            tokens.append(token.masked_fill(~goes_on, pad))
            chosen.append(value.masked_fill(~goes_on, 0.0))
            writes = goes_on & (token != end)
            if spans is not None:
                spans.choose(token, writes)
            goes_on = writes
        written, confidence = torch.stack(tokens, 1), torch.stack(chosen, 1)
        real = written != pad
        # Mask-Predict: the length stands, the least certain tokens are masked and predicted again.
        lengths = (real & (written != end)).sum(1)
        for done in range(1, passes):
            count = (lengths * (passes - done) + passes - 1) // passes
            certain = confidence.masked_fill(~real | (written == end), torch.inf)
            again = certain.argsort(1).argsort(1) < count[:, None]
            answers = torch.where(real & ~again, written, mask)
            log_probs = self._possible(self.predict(self.inputs(passages, questions, answers)))
            log_probs[..., end] = -torch.inf
            value, token = log_probs.max(-1)
            written = torch.where(again, token, written)
            confidence = torch.where(again, value, confidence)
        score = confidence.exp().masked_fill(~real, 0.0).sum(1) / real.sum(1)
        return _Written(written, score, spans)


class Seq2SeqReader(_Reader):
    """Writes the answer token by token on the same encoder: p(A|Q) = Π p(aₖ|a before k, Q) (reading.eq1).

    It reads [CLS], passage, [SEP], question, [SEP], which see each other, and then the answer, each token of
    which sees all of that and what stands before it: UniLM's mask.

    Args:
        encoder: a masked language model that carries its vocabulary, such as `MaskedLM`.
        max_answer_length: tokens of the longest answer, without the end mark.

    Raises the errors of `MLMReader`.
    """

    def __init__(self, encoder: nn.Module, max_answer_length: int) -> None:
        super().__init__(encoder, max_answer_length)

    def prefix(
        self, passages: Sequence[Sequence[int]], questions: Sequence[Sequence[int]]
    ) -> Int[Tensor, "batch length"]:
        """What the encoder reads before the answer, padded on the left: the answer follows at once."""
        start, end = self.vocabulary.start, self.vocabulary.end
        rows = [
            [start, *passage, end, *question, end]
            for passage, question in zip(passages, questions, strict=True)
        ]
        return self._padded(rows, left=True)

    def mask(self, prefix: Int[Tensor, "batch length"], steps: int) -> Bool[Tensor, "batch whole whole"]:
        """Who may look at whom, in a prefix with so many tokens of an answer behind it."""
        length = prefix.shape[1]
        seen = torch.zeros(length + steps, length + steps, dtype=torch.bool, device=prefix.device)
        seen[:, :length] = True
        if steps:
            seen[length:, length:] = causal_mask(steps, prefix.device)
        real = torch.nn.functional.pad(prefix != self.vocabulary.pad, (0, steps), value=True)
        return seen & real[:, None]

    def next_log_probs(
        self, prefix: Int[Tensor, "batch length"], written: Int[Tensor, "batch steps"]
    ) -> Float[Tensor, "batch next vocabulary"]:
        """Log-probabilities of the first token, and of those after each one written: (B, steps + 1, V)."""
        ids = torch.cat((prefix, written), 1)
        keep = slice(prefix.shape[1] - 1, None)
        return checks.working(self.encoder(ids, self.mask(prefix, written.shape[1]), keep)).log_softmax(-1)

    def _target_log_probs(
        self, passages: list[list[int]], questions: list[list[int]], target: Tensor
    ) -> Tensor:
        # What stands behind the end mark is not seen by what counts.
        return self.next_log_probs(self.prefix(passages, questions), target[:, :-1])

    def _candidate_log_probs(
        self, passages: list[list[int]], questions: list[list[int]], rows: Tensor, target: Tensor
    ) -> Tensor:
        if not isinstance(self.encoder, MaskedLM):
            return super()._candidate_log_probs(passages, questions, rows, target)
        prefix, written = self.prefix(passages, questions), target[:, :-1]
        states, past = self.encoder.states(prefix, self.mask(prefix, 0))
        past = [KeyValues(one.keys[rows], one.values[rows]) for one in past]
        mask = self.mask(prefix[rows], written.shape[1])[:, prefix.shape[1] :]
        later, _ = self.encoder.states(written, mask, past)
        states = torch.cat((states[rows, -1:], later), 1)
        return checks.working(self.encoder.logits(states)).log_softmax(-1)

    def _write(
        self,
        passages: list[list[int]],
        questions: list[list[int]],
        constrain: bool,
        beam_size: int = 1,
        cache: bool | None = None,
    ) -> _Written:
        """The best path of a beam; `cache` keeps keys and values, if None where the encoder can."""
        checks.count("beam_size", beam_size, 1)
        can = isinstance(self.encoder, MaskedLM)
        if cache and not can:
            raise ValueError(f"cache must be False for a {type(self.encoder).__name__}, got {cache!r}")
        prefix = self.prefix(passages, questions)
        spans = _Spans(self._padded(passages), self.vocabulary.pad) if constrain else None
        return _Beams(self, prefix, spans, beam_size, can if cache is None else cache).run()


class _Beams:
    """Beam search for several questions at once. Rows are questions × paths."""

    def __init__(
        self, reader: Seq2SeqReader, prefix: Tensor, spans: _Spans | None, k: int, cache: bool
    ) -> None:
        self.reader, self.k, self.spans, device = reader, k, spans, prefix.device
        self.questions = len(prefix)
        self.rows = torch.arange(self.questions, device=device).repeat_interleave(k)
        self.prefix = prefix[self.rows]
        if spans is not None:
            spans.select(self.rows)
        self.written = torch.empty(len(self.rows), 0, dtype=torch.int64, device=device)
        self.ended = torch.zeros(len(self.rows), dtype=torch.bool, device=device)
        self.score = torch.full((self.questions, k), -torch.inf, device=device)
        self.score[:, 0] = 0.0  # the other paths are not there yet
        self.probability = torch.zeros(len(self.rows), device=device)
        """Sum over the steps."""
        self.past: list[KeyValues] | None = None
        self.cache, self.first = cache, prefix

    def run(self) -> _Written:
        end = self.reader.vocabulary.end
        for step in range(self.reader.max_answer_length + 1):
            log_probs = self.reader._possible(self.step_log_probs())
            allowed = torch.ones_like(log_probs, dtype=torch.bool)
            if self.spans is not None:
                allowed = self.spans.allowed(log_probs.shape[1])
                allowed[:, end] = step > 0
            if step == self.reader.max_answer_length:  # no room for more
                allowed = torch.zeros_like(allowed)
                allowed[:, end] = True
            self.choose(log_probs.masked_fill(~allowed, -torch.inf))
            if self.ended.all():
                break
        best = self.score.argmax(1) + torch.arange(self.questions, device=self.written.device) * self.k
        written = self.written[best]
        real = (written != self.reader.vocabulary.pad).sum(1)
        if self.spans is not None:
            self.spans.select(best)
        return _Written(written, self.probability[best] / real, self.spans)

    def step_log_probs(self) -> Tensor:
        """Of the next token of each path."""
        if not self.cache:
            return self.reader.next_log_probs(self.prefix, self.written)[:, -1]
        encoder = cast(MaskedLM, self.reader.encoder)
        if self.past is None:  # each question is read once, whatever the beam
            mask = self.reader.mask(self.first, 0)
            states, past = encoder.states(self.first, mask)
            self.past = [KeyValues(one.keys[self.rows], one.values[self.rows]) for one in past]
            states = states[self.rows]
        else:
            seen = self.prefix != self.reader.vocabulary.pad
            mask = torch.nn.functional.pad(seen, (0, self.written.shape[1]), value=True)[:, None]
            states, self.past = encoder.states(self.written[:, -1:], mask, self.past)
        return checks.working(encoder.logits(states[:, -1])).log_softmax(-1)

    def choose(self, log_probs: Tensor) -> None:
        """The best k continuations for each question; a path that has ended stays as it is."""
        end, pad = self.reader.vocabulary.end, self.reader.vocabulary.pad
        vocab_size = log_probs.shape[1]
        step = log_probs.masked_fill(self.ended[:, None], -torch.inf)
        step[:, pad] = torch.where(self.ended, 0.0, -torch.inf)
        total = self.score.reshape(-1, 1) + step
        self.score, chosen = total.view(self.questions, -1).topk(self.k)
        base = torch.arange(self.questions, device=chosen.device)[:, None] * self.k
        parent, token = (base + chosen // vocab_size).flatten(), (chosen % vocab_size).flatten()
        ended = self.ended[parent]
        probability = step[parent, token].exp().masked_fill(ended, 0.0)
        self.probability = self.probability[parent] + probability
        self.written = torch.cat((self.written[parent], token[:, None]), 1)
        if self.k > 1 and self.past is not None:
            self.past = [KeyValues(one.keys[parent], one.values[parent]) for one in self.past]
        if self.spans is not None:
            self.spans.select(parent)
            self.spans.choose(token, ~ended & (token != end))
        self.ended = ended | (token == end) | self.score.flatten().isneginf()


# --- Evaluation --------------------------------------------------------------------------------


def normalized(text: str) -> str:
    """A text without spaces and punctuation, in lower case, wide letters and digits as narrow ones."""
    plain = unicodedata.normalize("NFKC", text).lower()
    return "".join(one for one in plain if unicodedata.category(one)[0] not in "PZ" and not one.isspace())


def exact_match(prediction: str, references: str | Sequence[str]) -> bool:
    """Whether an answer equals one of the references, after `normalized` (reading.metric).

    Raises ValueError where there is no reference.
    """
    return normalized(prediction) in set(map(normalized, _several(references)))


def answer_f1(prediction: str, references: str | Sequence[str]) -> float:
    """F1 of an answer's characters as a multiset, with the best of the references (reading.metric).

    2·P·R/(P + R), where P is the share of the answer's characters that the reference has too, R that of the
    reference's; after `normalized`. 0 where they have none in common.

    Raises ValueError where there is no reference.
    """
    return max(_f1(Counter(normalized(prediction)), Counter(normalized(one))) for one in _several(references))


def _f1(found: Counter[str], true: Counter[str]) -> float:
    common = (found & true).total()
    return 2 * common / (found.total() + true.total()) if common else 0.0


def _several(references: str | Sequence[str]) -> Sequence[str]:
    several = [references] if isinstance(references, str) else references
    if not several:
        raise ValueError(f"references must hold at least one, got {references!r}")
    return several


def vote(answers: Iterable[Answer]) -> Answer:
    """The answer to one question that several passages support best (reading.vote).

    Answers with the same text are added up as Σs²/(1 + Σs), which counts a few certain ones for more than
    many uncertain ones; the first of the best wins.

    Raises ValueError for no answers, or a score outside [0, 1].
    """
    scores: dict[str, list[float]] = defaultdict(list)
    for text, score in answers:
        if not 0 <= score <= 1:
            raise ValueError(f"answers must have scores within [0, 1], got {score}")
        scores[text].append(score)
    if not scores:
        raise ValueError("answers must hold at least one, got none")
    # reading.vote: Σs²/(1 + Σs)
    total = {text: sum(s * s for s in each) / (1 + sum(each)) for text, each in scores.items()}
    best = max(total, key=total.__getitem__)
    return Answer(best, total[best])


# --- What independence costs ---------------------------------------------------------------------


def product_of_marginals(joint: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The independent distribution nearest to a joint one, ∏ pₖ(aₖ) (reading.gap).

    Args:
        joint: p, an axis for each variable.

    Raises ValueError for no axes, negative entries, or a sum other than 1.
    """
    _check_distribution(joint)
    product = torch.ones((), dtype=joint.dtype, device=joint.device)
    for axis in range(joint.ndim):
        others = [other for other in range(joint.ndim) if other != axis]
        product = product[..., None] * (joint.sum(others) if others else joint)
    return product


def total_correlation(joint: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """Σ H(aₖ) − H(a₁ … aₙ) in nats: the least KL(p‖q) of any independent q (reading.gap).

    KL(p‖∏qₖ) = total correlation + Σ KL(pₖ‖qₖ), so that the best q is `product_of_marginals`.

    Args and errors are those of `product_of_marginals`.
    """
    product = product_of_marginals(joint)
    return torch.special.xlogy(joint, joint).sum() - torch.special.xlogy(joint, product).sum()


def _check_distribution(joint: object) -> None:
    checks.floating("joint", joint)
    assert isinstance(joint, Tensor)
    if joint.ndim == 0 or joint.numel() == 0:
        raise ValueError(f"joint must have an axis for each variable, got shape {tuple(joint.shape)}")
    total = float(joint.double().sum())
    if not bool((joint >= 0).all()) or abs(total - 1) > 1e-4:
        raise ValueError(
            f"joint must be nonnegative and sum to 1, got a smallest entry {float(joint.min())} "
            f"and a sum {total}"
        )


class LinearChainCRF(nn.Module):
    """A linear-chain CRF: p(y|x) = exp(Σ emission[t, y_t] + Σ transition[y_t, y_t₊₁]) / Z(x).

    Tags that depend on each other: not an independent model, whatever its decoding (reading.crf).

    Args:
        tags: how many.

    Raises TypeError for a number that is no int, ValueError for one below 1.
    """

    def __init__(self, tags: int) -> None:
        super().__init__()
        checks.count("tags", tags, 1)
        self.transition = nn.Parameter(torch.zeros(tags, tags))

    def forward(
        self,
        emissions: Float[Tensor, "batch time tags"],
        tags: Int[Tensor, "batch time"],
        mask: Bool[Tensor, "batch time"],
    ) -> Float[Tensor, " batch"]:
        """log p(tags | emissions) of each sequence.

        Args:
            emissions: a score for each tag at each place.
            tags: whatever stands in the padding does not count.
            mask: True where real, at the beginning of each row, which has at least one.

        Raises ValueError for shapes that do not fit, tags out of range, or a mask of another form.
        """
        mask = self._check(emissions, mask)
        if tags.shape != mask.shape:
            raise ValueError(f"tags must have shape {tuple(mask.shape)}, got {tuple(tags.shape)}")
        tags = tags.masked_fill(~mask, 0)
        if bool(((tags < 0) | (tags >= emissions.shape[2])).any()):
            low, high = int(tags.min()), int(tags.max())
            raise ValueError(f"tags must lie within 0 … {emissions.shape[2] - 1}, got {low} … {high}")
        at = emissions.gather(-1, tags[..., None]).squeeze(-1).masked_fill(~mask, 0.0).sum(1)
        steps = self.transition[tags[:, :-1], tags[:, 1:]].masked_fill(~mask[:, 1:], 0.0).sum(1)
        return at + steps - self.log_partition(emissions, mask)

    def log_partition(
        self, emissions: Float[Tensor, "batch time tags"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, " batch"]:
        """log Z(x), a sum over all sequences of tags, by the forward recursion."""
        mask = self._check(emissions, mask)
        alpha = emissions[:, 0]
        for t in range(1, emissions.shape[1]):
            new = (alpha[:, :, None] + self.transition).logsumexp(1) + emissions[:, t]
            alpha = torch.where(mask[:, t, None], new, alpha)
        return alpha.logsumexp(1)

    def decode(
        self, emissions: Float[Tensor, "batch time tags"], mask: Bool[Tensor, "batch time"]
    ) -> Int[Tensor, "batch time"]:
        """The most likely tags of each sequence (Viterbi), 0 in the padding."""
        mask = self._check(emissions, mask)
        score, back = emissions[:, 0], []
        for t in range(1, emissions.shape[1]):
            best, source = (score[:, :, None] + self.transition).max(1)
            stay = torch.arange(emissions.shape[2], device=emissions.device).expand_as(source)
            score = torch.where(mask[:, t, None], best + emissions[:, t], score)
            back.append(torch.where(mask[:, t, None], source, stay))
        tags = [score.argmax(1)]
        for source in reversed(back):
            tags.append(source.gather(1, tags[-1][:, None]).squeeze(1))
        return torch.stack(tags[::-1], 1).masked_fill(~mask, 0)

    def _check(self, emissions: Tensor, mask: Tensor) -> Tensor:
        checks.floating("emissions", emissions)
        tags = len(self.transition)
        if emissions.ndim != 3 or emissions.shape[2] != tags or not emissions.shape[1]:
            raise ValueError(f"emissions must have shape (B, T, {tags}), T ≥ 1, got {tuple(emissions.shape)}")
        if mask.shape != emissions.shape[:2] or mask.dtype != torch.bool:
            raise ValueError(
                f"mask must be boolean of shape {tuple(emissions.shape[:2])}, "
                f"got {mask.dtype} of shape {tuple(mask.shape)}"
            )
        if not mask[:, 0].all() or bool((mask[:, 1:] & ~mask[:, :-1]).any()):
            raise ValueError("mask must be True at the beginning of each row, got a row where it is not")
        return mask


# --- Words in a row of characters ----------------------------------------------------------------

WORD_TAGS = "BMES"
"""A character begins a word, is in its middle, ends it, or is one by itself."""


def tags_of_words(words: Sequence[str]) -> list[int]:
    """A tag for each character, as indices into `WORD_TAGS`. Raises ValueError for an empty word."""
    tags: list[int] = []
    for word in words:
        if not word:
            raise ValueError(f"words must not be empty, got {list(words)!r:.80}")
        tags += [3] if len(word) == 1 else [0, *[1] * (len(word) - 2), 2]
    return tags


def words_of_tags(text: str, tags: Sequence[int]) -> list[str]:
    """The words that tags cut a text into: a word ends after E and S, and before B and S.

    So every sequence of tags, also an impossible one, means a segmentation. Raises ValueError for unequal
    lengths.
    """
    if len(text) != len(tags):
        raise ValueError(f"tags must be as many as the text's characters, {len(text)}, got {len(tags)}")
    words: list[str] = []
    open_ = False
    for character, tag in zip(text, tags, strict=True):
        if open_ and tag in (1, 2):
            words[-1] += character
        else:
            words.append(character)
        open_ = tag in (0, 1)
    return words


def segmentation_counts(found: Sequence[str], true: Sequence[str]) -> tuple[int, int, int]:
    """Words that both segmentations of a text have in the same place, words found, and true words.

    Summed over texts, they give precision, recall and F1. Raises ValueError for different texts.
    """
    if "".join(found) != "".join(true):
        raise ValueError(f"found must be a segmentation of the text of true, got {''.join(found)!r:.80}")
    return len(_places(found) & _places(true)), len(found), len(true)


def _places(words: Sequence[str]) -> set[tuple[int, int]]:
    places, begin = set(), 0
    for word in words:
        places.add((begin, begin + len(word)))
        begin += len(word)
    return places


# --- Cloze questions ---------------------------------------------------------------------------

ENTITIES = ("nr", "ns", "nt", "nz")
"""Tags of persons, places, organisations and other names."""


@dataclass(frozen=True)
class ClozeQuestion:
    """A sentence with a blank, the text before it, and what stood in the blank."""

    passage: str
    question: str
    """With `BLANK` wherever the answer stood."""
    answer: str
    kind: str
    """The answer's tag."""
    entities: tuple[str, ...]
    """Names in the passage, the most frequent first, of equally frequent ones the last mentioned."""


class ClozeDataset(Sequence[ClozeQuestion]):
    """Cloze questions from a tagged text: which word of the passage is missing in the next sentence?

    The passage is as many whole sentences before the question as fit. The answer is a word of the question
    that is a word of the passage, too, both with tags of `kinds`; it is blanked out wherever it occurs in the
    question. A family name and the given name after it are one word. Each such word of a sentence gives a
    question (Cui et al. 2016 built their People's Daily set in this way, of one noun a document).

    Args:
        text: paragraphs in their order.
        kinds: tags of answers.
        passage_length: at most so many characters.
        question_length: sentences with more characters, or fewer than 8, are no questions.
        max_answer_length: characters of an answer, at least 2.

    Raises:
        TypeError: lengths that are no ints.
        ValueError: lengths too small, or no kinds.
    """

    SHORTEST = 8

    def __init__(
        self,
        text: TaggedText,
        kinds: Sequence[str] = ENTITIES,
        passage_length: int = 150,
        question_length: int = 80,
        max_answer_length: int = 8,
    ) -> None:
        checks.count("passage_length", passage_length, 1)
        checks.count("question_length", question_length, self.SHORTEST)
        checks.count("max_answer_length", max_answer_length, 2)
        if isinstance(kinds, str) or not kinds:
            raise ValueError(f"kinds must be tags, at least one, got {kinds!r}")
        self.source: Source = text.source
        sentences = list(_sentences(text))
        lengths = [sum(len(word) for word, _ in sentence) for sentence in sentences]
        self._questions: list[ClozeQuestion] = []
        for place, sentence in enumerate(sentences):
            if not self.SHORTEST <= lengths[place] <= question_length:
                continue
            begin, room = place, passage_length
            while begin > 0 and lengths[begin - 1] <= room:
                begin -= 1
                room -= lengths[begin]
            context = [pair for before in sentences[begin:place] for pair in before]
            self._questions += _questions(context, sentence, tuple(kinds), max_answer_length)

    def __len__(self) -> int:
        return len(self._questions)

    def __getitem__(self, index: Any) -> Any:
        """A question, or a list of them for a slice."""
        return self._questions[index]


def most_frequent_entity(question: ClozeQuestion) -> str:
    """The baseline: the name that the passage has most often, "" where it has none."""
    return question.entities[0] if question.entities else ""


def _questions(
    context: list[tuple[str, str]], sentence: list[tuple[str, str]], kinds: tuple[str, ...], longest: int
) -> Iterator[ClozeQuestion]:
    names = [word for word, tag in context if tag in ENTITIES and len(word) > 1]
    count, last = Counter(names), {name: i for i, name in enumerate(names)}
    entities = tuple(sorted(count, key=lambda name: (-count[name], -last[name])))
    known = {word for word, tag in context if tag in kinds}
    text = "".join(word for word, _ in sentence)
    asked = dict.fromkeys(
        (word, tag)
        for word, tag in sentence
        if tag in kinds and word in known and 2 <= len(word) <= longest and BLANK not in word
    )
    for word, tag in asked:
        yield ClozeQuestion(
            "".join(word for word, _ in context), text.replace(word, BLANK), word, tag, entities
        )


def _sentences(text: TaggedText) -> Iterator[list[tuple[str, str]]]:
    """Words with their tags, sentence by sentence; persons' names joined."""
    for words, tags in zip(text.word, text.tag, strict=True):
        sentence: list[tuple[str, str]] = []
        family = False
        for word, tag in zip(words, tags, strict=True):
            if family and tag == "nr" and len(word) <= 2:
                sentence[-1] = (sentence[-1][0] + word, "nr")
                family = False
            else:
                sentence.append((word, tag))
                family = tag == "nr" and len(word) <= 2
            if word in ("。", "！", "？"):
                yield sentence
                sentence, family = [], False
        if sentence:
            yield sentence

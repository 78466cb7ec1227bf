"""What all readers share: how question and passage are laid out, and answers within the passage."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, cast, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from kexue.nn import checks
from kexue.nn.modes import evaluating
from kexue.nn.sequences import pad_ids
from kexue.reading.encoder import Encoder, HuggingFaceEncoder, Tokens


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


class Spans:
    """The spans of each passage that begin with what has been written; who may go on, and with what."""

    def __init__(self, passages: Int[Tensor, "batch length"], pad: int) -> None:
        self.rest, self.pad = passages, pad
        self.alive = passages != pad
        """By the place where a span begins."""

    def allowed(self, vocab_size: int) -> Bool[Tensor, "batch vocabulary"]:
        """Which tokens continue a span."""
        goes_on = self.alive & (self.rest != self.pad)
        found = torch.zeros(len(self.rest), vocab_size, dtype=torch.bool, device=self.rest.device)
        found.scatter_(1, self.rest.masked_fill(~goes_on, self.pad), True)
        found[:, self.pad] = False
        return found

    def choose(self, tokens: Int[Tensor, " batch"], goes_on: Bool[Tensor, " batch"]) -> None:
        """Go on with these tokens, where the answer has not ended."""
        moved = torch.nn.functional.pad(self.rest[:, 1:], (0, 1), value=self.pad)
        alive = self.alive & (self.rest == tokens[:, None])
        self.alive = torch.where(goes_on[:, None], alive, self.alive)
        self.rest = torch.where(goes_on[:, None], moved, self.rest)

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Only those rows, in that order."""
        self.rest, self.alive = self.rest[rows], self.alive[rows]


class Written(NamedTuple):
    tokens: Int[Tensor, "batch steps"]
    """Padded."""
    score: Float[Tensor, " batch"]
    spans: Spans | None


class _Piece(NamedTuple):
    """A passage, or the part of it that fits the window."""

    row: int
    ids: list[int]
    offsets: list[tuple[int, int]]


_AnyReader = TypeVar("_AnyReader", bound="Reader")  # not Self, which beartype does not know in a method


class Reader(nn.Module):
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
        cls: type[_AnyReader],
        name_or_folder: str | Path,
        max_answer_length: int = 32,
        revision: str | None = None,
    ) -> _AnyReader:
        """The head on a pretrained BERT of Hugging Face's; see `HuggingFaceEncoder`."""
        return cls(HuggingFaceEncoder(name_or_folder, revision), max_answer_length)

    @property
    def device(self) -> torch.device:
        return self.forbidden.device

    def loss(self, batch: Sequence[Question]) -> Float[Tensor, ""]:
        """Mean of −log p(answer | passage, question) over the batch, in nats per answer.

        Raises ValueError for an empty batch, or what `log_prob` raises.
        """
        return -self.log_prob(*texts_of(batch)).mean()

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
        log_probs, target = self.forced_log_probs(passages, questions, answers)
        return log_probs.gather(-1, target[..., None]).squeeze(-1), target != self.vocabulary.pad

    def forced_log_probs(
        self, passages: Sequence[str], questions: Sequence[str], answers: Sequence[str]
    ) -> tuple[Float[Tensor, "batch steps vocabulary"], Int[Tensor, "batch steps"]]:
        """log p of every token at each place of true answers, whose `targets` are the second result."""
        encoded = self.encode(passages, questions)
        if len(answers) != len(passages):
            raise ValueError(f"answers must be as many as passages, {len(passages)}, got {len(answers)}")
        target = self.targets(answers)
        return self._target_log_probs(*encoded, target), target

    def candidate_log_probs(
        self, passages: Sequence[str], questions: Sequence[str], candidates: Sequence[Sequence[str]]
    ) -> list[Float[Tensor, " candidates"]]:
        """`log_prob` of several answers to each question, which is read once.

        Raises ValueError for unequal numbers, a question without a candidate, or what `log_prob` raises.
        """
        encoded = self.encode(passages, questions)
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
        log_probs = self._candidate_log_probs(*encoded, rows, target)
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
        if not isinstance(constrain, bool):
            raise TypeError(f"constrain must be a bool, got {type(constrain).__name__}")
        checks.count("batch_size", batch_size, 1)
        pieces, asked = self._pieces(passages, questions, windows=True)
        best: dict[int, Answer] = {}
        with evaluating(self):
            for begin in range(0, len(pieces), batch_size):
                some = pieces[begin : begin + batch_size]
                written = self._write(
                    [one.ids for one in some], [asked[one.row] for one in some], constrain, **options
                )
                for piece, found in zip(some, self._texts(some, passages, written), strict=True):
                    if piece.row not in best or found.score > best[piece.row].score:
                        best[piece.row] = found
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

    def _write(self, *args: Any, **options: Any) -> Written:
        """Answers to encoded passages and questions, constrained or not."""
        raise NotImplementedError

    def encode(
        self, passages: Sequence[str], questions: Sequence[str]
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Passages and questions as ids, as `log_prob` reads them: whole. Raises the errors of `log_prob`."""
        pieces, asked = self._pieces(passages, questions, windows=False)
        return [one.ids for one in pieces], asked

    def _pieces(
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
        return pad_ids(rows, self.vocabulary.pad, length, left, self.device)

    def possible(self, log_probs: Float[Tensor, "*batch vocabulary"]) -> Float[Tensor, "*batch vocabulary"]:
        """−∞ for what no answer holds."""
        return log_probs.masked_fill(self.forbidden, -torch.inf)

    def allowed(
        self, log_probs: Float[Tensor, "batch vocabulary"], step: int, spans: Spans | None
    ) -> Float[Tensor, "batch vocabulary"]:
        """−∞ for what may not stand at a step: outside the spans, no answer at all, or too long a one."""
        allowed = torch.ones_like(log_probs, dtype=torch.bool)
        if spans is not None:
            allowed = spans.allowed(log_probs.shape[1])
            allowed[:, self.vocabulary.end] = step > 0
        if step == self.max_answer_length:
            allowed = torch.zeros_like(allowed)
            allowed[:, self.vocabulary.end] = True
        return self.possible(log_probs).masked_fill(~allowed, -torch.inf)

    def _texts(self, pieces: Sequence[_Piece], passages: Sequence[str], written: Written) -> Iterator[Answer]:
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


def texts_of(batch: Sequence[Question]) -> tuple[list[str], list[str], list[str]]:
    """Passages, questions and answers of a batch. Raises ValueError for an empty one."""
    if not batch:
        raise ValueError("batch must hold at least one question, got none")
    return [one.passage for one in batch], [one.question for one in batch], [one.answer for one in batch]

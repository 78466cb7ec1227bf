"""Answers compared, and voted on."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from kexue.nn import checks
from kexue.reading.reader import Answer


def normalized(text: str) -> str:
    """A text without spaces and punctuation, in lower case, wide letters and digits as narrow ones."""
    checks.instance("text", text, str, "a string")
    plain = unicodedata.normalize("NFKC", text).lower()
    return "".join(one for one in plain if unicodedata.category(one)[0] not in "PZ" and not one.isspace())


def exact_match(prediction: str, references: str | Sequence[str]) -> bool:
    """Whether an answer equals one of the references, after `normalized` (reading.metric).

    Raises TypeError for what is no string, ValueError where there is no reference.
    """
    checks.instance("prediction", prediction, str, "a string")
    return normalized(prediction) in set(map(normalized, _several(references)))


def answer_f1(prediction: str, references: str | Sequence[str]) -> float:
    """F1 of an answer's characters as a multiset, with the best of the references (reading.metric).

    2·P·R/(P + R), where P is the share of the answer's characters that the reference has too, R that of the
    reference's; after `normalized`. 0 where they have none in common.

    Raises TypeError for what is no string, ValueError where there is no reference.
    """
    checks.instance("prediction", prediction, str, "a string")
    return max(_f1(Counter(normalized(prediction)), Counter(normalized(one))) for one in _several(references))


def _f1(found: Counter[str], true: Counter[str]) -> float:
    common = (found & true).total()
    return 2 * common / (found.total() + true.total()) if common else 0.0


def _several(references: str | Sequence[str]) -> Sequence[str]:
    several = [references] if isinstance(references, str) else checks.strings("references", references)
    if not several:
        raise ValueError(f"references must hold at least one, got {references!r}")
    return several


def vote(answers: Iterable[Answer]) -> Answer:
    """The answer to one question that several passages support best (reading.vote).

    Answers with the same text are added up as Σs²/(1 + Σs), which counts a few certain ones for more than
    many uncertain ones; the first of the best wins.

    Raises TypeError for what is no `Answer`, ValueError for no answers, or a score outside [0, 1].
    """
    checks.instance("answers", answers, Iterable, "an iterable of answers")
    scores: dict[str, list[float]] = defaultdict(list)
    for answer in answers:
        checks.instance("answers", answer, Answer, "each an Answer")
        text, score = answer
        checks.number("score of answers", score)
        if not 0 <= score <= 1:
            raise ValueError(f"answers must have scores within [0, 1], got {score}")
        scores[text].append(score)
    if not scores:
        raise ValueError("answers must hold at least one, got none")
    # reading.vote: Σs²/(1 + Σs)
    total = {text: sum(s * s for s in each) / (1 + sum(each)) for text, each in scores.items()}
    best = max(total, key=total.__getitem__)
    return Answer(best, total[best])

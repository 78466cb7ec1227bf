"""How often, and by how much, what was written is wrong."""

from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

from kexue.nn import checks


def error_rate(
    hypotheses: Sequence[Sequence[int | str]], references: Sequence[Sequence[Sequence[int | str]]]
) -> tuple[float, float]:
    """Phoneme and word error rate: edits per token of the reference, and share of words with any.

    Where there are several references for a word, the one with the fewest edits per token counts, of equal
    ones the shortest.

    Args:
        hypotheses: of each word one sequence of tokens, ids or strings.
        references: of each word one or more.

    Raises:
        TypeError: a word's references are a string, or no sequence of sequences.
        ValueError: no words, unequal numbers of them, or a word without a reference, or with an empty one.
    """
    checks.instance("hypotheses", hypotheses, Sequence, "a sequence of words")
    checks.instance("references", references, Sequence, "a sequence of words")
    if len(hypotheses) != len(references) or not hypotheses:
        raise ValueError(
            f"hypotheses must be as many as references, at least one, got {len(hypotheses)} "
            f"and {len(references)}"
        )
    edits = tokens = wrong = 0
    for index, (hypothesis, several) in enumerate(zip(hypotheses, references, strict=True)):
        lists = isinstance(several, Sequence) and not isinstance(several, str)
        if not lists or not all(isinstance(one, Sequence) for one in (hypothesis, *several)):
            raise TypeError(
                "hypotheses and references must be sequences of tokens, and lists of such, "
                f"got {hypothesis!r} and {several!r} at {index}"
            )
        if not several or not all(several):
            raise ValueError(f"references must have a token for every word, got {several!r} at {index}")
        found = [(Levenshtein.distance(tuple(hypothesis), tuple(one)), len(one)) for one in several]
        distance, length = min(found, key=lambda pair: (pair[0] / pair[1], pair[1]))
        edits, tokens, wrong = edits + distance, tokens + length, wrong + (distance > 0)
    return edits / tokens, wrong / len(hypotheses)

"""Words in a row of characters, as tags."""

from collections.abc import Sequence
from itertools import accumulate

from kexue.nn import checks

WORD_TAGS = "BMES"
"""A character begins a word, is in its middle, ends it, or is one by itself."""


def tags_of_words(words: Sequence[str]) -> list[int]:
    """A tag for each character, as indices into `WORD_TAGS`.

    Raises TypeError for what is no word, ValueError for an empty one.
    """
    tags: list[int] = []
    for word in checks.strings("words", words):
        if not word:
            raise ValueError(f"words must not be empty, got {list(words)!r:.80}")
        tags += [3] if len(word) == 1 else [0, *[1] * (len(word) - 2), 2]
    return tags


def words_of_tags(text: str, tags: Sequence[int]) -> list[str]:
    """The words that tags cut a text into: a word ends after E and S, and before B and S.

    So every sequence of tags, also an impossible one, means a segmentation. Raises TypeError for tags that
    are no ints, ValueError for unequal lengths, or what is no tag.
    """
    checks.instance("text", text, str, "a string")
    checks.instance("tags", tags, Sequence, "a sequence of ints")
    for tag in tags:
        checks.count("tags", tag, 0, len(WORD_TAGS) - 1)
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

    Summed over texts, they give precision, recall and F1. Raises TypeError for what is no word,
    ValueError for different texts.
    """
    text = "".join(checks.strings("found", found))
    if text != "".join(checks.strings("true", true)):
        raise ValueError(f"found must be a segmentation of the text of true, got {text!r:.80}")
    return len(word_places(found).keys() & word_places(true).keys()), len(found), len(true)


def word_places(words: Sequence[str]) -> dict[tuple[int, int], str]:
    """Words by where in their text they begin and end."""
    ends = list(accumulate(map(len, words)))
    return {(end - len(word), end): word for word, end in zip(words, ends, strict=True)}

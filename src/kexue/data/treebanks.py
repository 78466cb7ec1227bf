"""Sentences with their trees."""

import re
import zipfile
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from kexue.data.sources import SOURCES, Source, fetch
from kexue.nn import checks

Tree: TypeAlias = str | list[Any]
"""A word, or a list of trees."""


@dataclass(frozen=True)
class Treebank:
    """Sentences with their trees."""

    tree: tuple[Tree, ...]
    """Of each sentence: words, and lists of what a constituent is made of. No labels and no empty elements,
    nor punctuation unless asked for; what that leaves empty is gone."""
    source: Source


# The tags of words; all others (punctuation, $, #, -NONE-) are left out, as in the literature.
_WORD_TAGS = frozenset(
    tag
    for line in (
        "CC CD DT EX FW IN JJ JJR JJS LS MD NN NNS NNP NNPS PDT POS PRP PRP$ RB RBR RBS RP SYM TO UH",
        "VB VBD VBG VBN VBP VBZ WDT WP WP$ WRB",
    )
    for tag in line.split()
)


@cache
def treebank(punctuation: bool = False) -> Treebank:
    """3,914 sentences of the Penn Treebank, downloaded once. Licence: © LDC, non-commercial.

    With `punctuation`, marks, $ and # are words like others.

    Raises FileNotFoundError where that is not possible; see `fetch`.
    """
    trees = []
    with zipfile.ZipFile(fetch("treebank/treebank.zip")) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".mrg"):
                trees += parse_brackets(archive.read(name).decode("ascii"), punctuation)
    return Treebank(tuple(tree for tree in trees if tree is not None), SOURCES["treebank"])


def parse_brackets(text: str, punctuation: bool = False) -> list[Tree | None]:
    """The trees of a text in the Penn Treebank's format, as `Treebank` has them; None where nothing is left.

    Raises ValueError for brackets that do not match.
    """
    checks.instance("text", text, str, "a string")
    top: list[list[Any]] = [[]]
    for token in re.findall(r"[()]|[^\s()]+", text):
        if token == "(":
            top.append([])
        elif token == ")":
            if len(top) == 1:
                raise ValueError("text must have matching brackets, got one ) too many")
            done = top.pop()
            top[-1].append(done)
        else:
            top[-1].append(token)
    if len(top) > 1:
        raise ValueError(f"text must have matching brackets, got {len(top) - 1} ( too many")
    return [_without_labels(tree, punctuation) for tree in top[0]]


def _without_labels(node: list[Any], punctuation: bool) -> Tree | None:
    top: list[Any] = []
    # What is to be read, for whom, and, if it has been read already, what was found in it.
    waiting: list[tuple[Any, list[Any], list[Any] | None]] = [(node, top, None)]
    while waiting:
        part, parent, parts = waiting.pop()
        if parts is not None:
            if parts:
                parent.append(parts)
        elif len(part) == 2 and isinstance(part[1], str):
            if part[0] in _WORD_TAGS or (punctuation and part[0] != "-NONE-"):
                parent.append(part[1])
        else:
            parts = []
            waiting.append((part, parent, parts))
            waiting += [(each, parts, None) for each in reversed(part) if isinstance(each, list)]
    return top[0] if top else None

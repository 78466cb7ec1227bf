"""Trees: from levels, by rule or at random, and how well they agree."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from torch import Tensor

from kexue.data import Tree
from kexue.nn import checks

Span: TypeAlias = tuple[int, int]
Rule = Literal["article", "split"]


def tree_from_levels(tokens: Sequence[str], levels: Sequence[float] | Tensor | np.ndarray) -> Tree:
    """The article's greedy tree (onlstm.alg1): at the first highest level k, [left, [tokenₖ, right]].

    left is the tree of the tokens before k, right that of those after it; where there are none, there is
    nothing to bracket. A tree of n tokens has n − 1 brackets; that of one token is the token.

    Args:
        tokens: n ≥ 1 of them.
        levels: of each.

    Raises TypeError for tokens that are no sequence, or levels that are no numbers; ValueError for no tokens,
    another number of levels, or levels that are not finite.
    """
    height = _heights(tokens, levels)
    return divided(tokens, lambda i, j: i + int(height[i:j].argmax()), "article", 0, len(tokens))


def divided(
    tokens: Sequence[str], place: Callable[[int, int], int], rule: Rule, start: int, stop: int
) -> Tree:
    """The tree of the tokens in [start, stop): divided at k = place(start, stop), and so are its parts.

    By the article's rule it is [left, [tokenₖ, right]], where right may be empty, and left, too; by "split"
    it is [left, right], where right begins with tokenₖ.

    Args:
        tokens: all of them.
        place: where to divide the tokens in [i, j), i ≤ k < j, or i < k < j by "split"; not asked for a
            single token.
        rule: "article" or "split".
        start: of the part.
        stop: of the part, at least start + 1.
    """
    root: list[Any] = [None]
    waiting = [(start, stop, root, 0)]  # parts, and where their trees belong; no recursion: trees may be deep
    while waiting:
        i, j, holder, at = waiting.pop()
        if j - i == 1:
            holder[at] = tokens[i]
            continue
        k = place(i, j)
        node: Tree
        if rule == "split":
            node = [None, None]
            waiting += [(i, k, node, 0), (k, j, node, 1)]
        else:
            node = tokens[k]
            if k + 1 < j:
                node = [node, None]
                waiting.append((k + 1, j, node, 1))
            if i < k:
                node = [None, node]
                waiting.append((i, k, node, 0))
        holder[at] = node
    return root[0]


def _heights(tokens: Sequence[str], levels: Sequence[float] | Tensor | np.ndarray) -> np.ndarray:
    """The levels, if there is a finite one for each token."""
    checks.instance("tokens", tokens, Sequence, "a sequence")
    if not len(tokens):
        raise ValueError("tokens must hold at least one, got none")
    numbers = levels.detach().cpu().double() if isinstance(levels, Tensor) else levels
    try:
        height = np.asarray(numbers, dtype=float)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"levels must be numbers, got {levels!r:.80}") from None
    if height.shape != (len(tokens),):
        raise ValueError(f"levels must be one for each of {len(tokens)} tokens, got shape {height.shape}")
    if not np.isfinite(height).all():
        raise ValueError(f"levels must be finite, got {height[~np.isfinite(height)][0]}")
    return height


def split_tree(tokens: Sequence[str], levels: Sequence[float] | Tensor | np.ndarray) -> Tree:
    """A tree by splits alone: in two, before the first highest level, the first token's not counted.

    Unlike `tree_from_levels` this produces every binary tree (onlstm.trees).

    Raises as `tree_from_levels` does.
    """
    height = _heights(tokens, levels)
    return divided(tokens, lambda i, j: i + 1 + int(height[i + 1 : j].argmax()), "split", 0, len(tokens))


def best_tree(gold: Tree, rule: Rule = "article") -> Tree:
    """Of the trees that a rule can give for any levels, one with the most of gold's brackets (onlstm.alg1).

    Its F1 is the ceiling of the rule for this sentence, as all its trees have n − 1 brackets.

    Args:
        gold: any tree.
        rule: `tree_from_levels` ("article") or `split_tree` ("split").

    Raises ValueError for an unknown rule, and as `brackets` does.
    """
    checks.choice("rule", rule, get_args(Rule))
    tokens, wanted = _bracketed("gold", gold)
    n = len(tokens)
    # The most brackets within [i, j), and the place to split at. After the article's split at k the word k
    # stands alone: [left, [k, right]].
    most, place = np.zeros((n + 1, n + 1), int), np.zeros((n + 1, n + 1), int)
    inside = np.zeros((n + 1, n + 1), bool)
    for start, stop in wanted:
        inside[start, stop] = True
    for size in range(2, n + 1):
        for i in range(n - size + 1):
            j = i + size
            if rule == "article":
                k = np.arange(i, j)
                after = np.where(k > i, inside[k, j] & (j - k > 1), False)
                value = most[i, k] + after + most[np.minimum(k + 1, j), j]
            else:
                k = np.arange(i + 1, j)
                value = most[i, k] + most[k, j]
            best = int(value.argmax())
            place[i, j], most[i, j] = k[best], value[best] + inside[i, j]
    return divided(tokens, lambda i, j: int(place[i, j]), rule, 0, n)


def left_branching(tokens: Sequence[str]) -> Tree:
    """[[[a, b], c], d]. Raises TypeError for what is no sequence, ValueError for no tokens."""
    checks.instance("tokens", tokens, Sequence, "a sequence")
    return split_tree(tokens, np.arange(len(tokens)))


def right_branching(tokens: Sequence[str]) -> Tree:
    """[a, [b, [c, d]]]. Raises TypeError for what is no sequence, ValueError for no tokens."""
    checks.instance("tokens", tokens, Sequence, "a sequence")
    return split_tree(tokens, -np.arange(len(tokens)))


def balanced(tokens: Sequence[str]) -> Tree:
    """Halves, the left one smaller where the number is odd. Raises as `left_branching` does."""
    checks.instance("tokens", tokens, Sequence, "a sequence")
    if not tokens:
        raise ValueError("tokens must hold at least one, got none")
    if len(tokens) == 1:
        return tokens[0]
    half = len(tokens) // 2
    return [balanced(tokens[:half]), balanced(tokens[half:])]


def leaves(tree: Tree) -> list[str]:
    """The words of a tree, in their order. Raises TypeError for what is neither a string nor a list."""
    return _read("tree", tree)[0]


def brackets(tree: Tree) -> set[Span]:
    """The half-open spans of a tree's brackets, the root's included; words alone are none.

    Raises:
        TypeError: something in the tree is neither a string nor a list.
        ValueError: an empty bracket.
    """
    return _bracketed("tree", tree)[1]


def _bracketed(name: str, tree: Tree) -> tuple[list[str], set[Span]]:
    """A tree's words, and the spans of its brackets, of which none may be empty."""
    words, spans = _read(name, tree)
    if any(start == stop for start, stop in spans):
        raise ValueError(f"{name} must not have empty brackets")
    return words, spans


def _read(name: str, tree: Tree) -> tuple[list[str], set[Span]]:
    """A tree's words, and the spans of its brackets. No recursion: trees may be deep."""
    words, spans = list[str](), set[Span]()
    waiting: list[tuple[Tree, int | None]] = [(tree, None)]  # if it has been read: where its words begin
    while waiting:
        node, start = waiting.pop()
        if start is not None:
            spans.add((start, len(words)))
        elif isinstance(node, str):
            words.append(node)
        elif isinstance(node, list):
            waiting.append((node, len(words)))
            waiting += [(part, None) for part in reversed(node)]
        else:
            raise TypeError(f"{name} must be made of strings and lists, got {type(node).__name__}")
    return words, spans


def bracket_f1(predicted: Tree, gold: Tree) -> float:
    """Unlabelled F1 of a tree's brackets, without the root and single words (onlstm.claim2).

    2·precision·recall/(precision + recall); unary chains count once. A gold tree without brackets has
    recall 1, a predicted one without has precision 1.

    Raises as `brackets` does, and ValueError for trees over different words.
    """
    found, wanted = _compared(predicted, gold)
    right = len(found & wanted)
    precision = right / len(found) if found else 1.0
    recall = right / len(wanted) if wanted else 1.0
    return 2 * precision * recall / (precision + recall) if right or precision + recall else 0.0


def corpus_f1(predicted: Sequence[Tree], gold: Sequence[Tree]) -> float:
    """The same over all brackets of a corpus; 1 where neither side has any.

    Raises as `bracket_f1` does, and ValueError for different numbers of trees.
    """
    checks.instance("predicted", predicted, Sequence, "a sequence of trees")
    checks.instance("gold", gold, Sequence, "a sequence of trees")
    if len(predicted) != len(gold):
        raise ValueError(f"predicted must have as many trees as gold, {len(gold)}, got {len(predicted)}")
    right = found = wanted = 0
    for pair in zip(predicted, gold, strict=True):
        mine, true = _compared(*pair)
        right, found, wanted = right + len(mine & true), found + len(mine), wanted + len(true)
    return 2 * right / (found + wanted) if found + wanted else 1.0


def _compared(predicted: Tree, gold: Tree) -> tuple[set[Span], set[Span]]:
    """Brackets of both, without the root's and those of single words."""
    (found, spans), (wanted, spans_wanted) = _bracketed("predicted", predicted), _bracketed("gold", gold)
    if found != wanted:
        raise ValueError(f"predicted and gold must have the same words, got {found} and {wanted}")
    inner, inner_wanted = (
        {(i, j) for i, j in each if 1 < j - i < len(wanted)} for each in (spans, spans_wanted)
    )
    return inner, inner_wanted

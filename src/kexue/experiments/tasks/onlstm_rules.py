"""What the rules of the ledger make of trees, counts and perplexities: the chapter `onlstm`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kexue.experiments.tasks.decisions import Decision
from kexue.runs.statistics import Interval, mean_interval

RULES = {"greedy": "greedy rule", "split": "splits only"}
"""How trees are made of levels, as a reader is told."""

TREES = {
    "left": "left-branching",
    "right": "right-branching",
    "balanced": "halves",
    "random": "random levels",
    "frequency": "frequent words high",
    "rarity": "rare words high",
    "first_high": "early words high",
}
"""Those that need no network (`onlstm_grammar.controls_of`), as a reader is told."""

PUBLISHED = {"left": 13.1, "right": 16.5, "balanced": 21.3, "random_splits": 21.3}
"""F1 of trees without a model, in the first copies of the paper."""


def beat_counts(*networks: Any) -> bool:
    """The entry of the rules about the grammar, of the recorded runs of each cell (`runs.table`)."""
    return all(
        mean_interval(each.perplexity - each.perplexity_of_counts).beyond() is False for each in networks
    )


def trees_are_found(gains: Mapping[str, Mapping[str, Interval]]) -> Decision:
    """onlstm.grammar, of `over_controls` by rule."""
    sides = [[gain.beyond() for gain in by_control.values()] for by_control in gains.values()]
    every = [all(of_rule) for of_rule in sides]
    below = any(False in of_rule for of_rule in sides)
    return Decision(
        all(every) if any(every) or below else None,
        any(every),
        {f"{RULES[rule]}, over its average by position": gain["by_position"] for rule, gain in gains.items()},
    )


def only_from_forgetting(gains: Mapping[tuple[str, int], Mapping[str, Interval]]) -> tuple[Decision, bool]:
    """onlstm.claim4, of `over_controls` by gate ("forget", "input") and layer; and whether it is reached."""
    best = {key: all(gain.beyond() for gain in by_control.values()) for key, by_control in gains.items()}
    d_f, d_i = ([best[gate, layer] for layer in (1, 2)] for gate in ("forget", "input"))
    nothing_from_d_i = all(gains["input", layer]["random"].beyond() is not True for layer in (1, 2))
    closest = min(gains["input", 1].values(), key=lambda gain: float(gain.low))
    return Decision(
        False if any(d_i) else True if all(d_f) and nothing_from_d_i else None,
        False,
        {"F1 from d_i of layer 1, over its closest control": closest},
    ), any(d_f)


def protocols_near_published(protocols: Mapping[Any, Mapping[str, float]]) -> Decision:
    """onlstm.claim8, of `protocol_scores`."""
    close = [
        kind
        for kind, found in protocols.items()
        if all(abs(found[name] - f1) <= 3 for name, f1 in PUBLISHED.items())
    ]
    explains = (True, True, True) in close
    right = protocols[False, False, False]["right"]
    return Decision(explains and len(close) == 1, explains, {"right-branching, words only": right})


def counted(right_up_to: Mapping[str, Sequence[int]]) -> Decision:
    """onlstm.claim9, by cell: the largest n of each network."""
    ends_at = [min(numbers) for numbers in right_up_to.values()]
    some = all(max(numbers) > 20 for numbers in right_up_to.values())
    return Decision(
        True if min(ends_at) >= 40 else None if min(ends_at) <= 20 and some else False,
        min(ends_at) > 20,
        {f"{cell}, right up to": ", ".join(map(str, numbers)) for cell, numbers in right_up_to.items()},
    )


def log_gap(perplexity: Mapping[str, Any]) -> np.ndarray:
    """By how many percent the log perplexity of an LSTM is above that of the ON-LSTM of the same seed."""
    ours, plain = (np.asarray(perplexity[cell], dtype=float) for cell in ("onlstm", "lstm"))
    return 100 * np.log(plain / ours)


def better_language_model(
    perplexity: Mapping[str, Any], of_counts: float, elsewhere: Mapping[str, Any]
) -> tuple[Decision, bool]:
    """onlstm.claim1; and whether it is reached.

    Args:
        perplexity: of each seed, by cell.
        of_counts: of counts of five words.
        elsewhere: the perplexities on another text.
    """
    change, there = mean_interval(-log_gap(perplexity)), mean_interval(-log_gap(elsewhere))
    below = change.beyond() is False
    holds = None if change.beyond() is None else below and there.beyond() is not True
    measured = {
        "log perplexity, ON-LSTM less LSTM (%)": change,
        "on the other text": there,
        "perplexity, ON-LSTM": mean_interval(perplexity["onlstm"]),
        "LSTM": mean_interval(perplexity["lstm"]),
        "counts of five words": of_counts,
    }
    reached = all(mean_interval(perplexity[cell]).beyond(of_counts) is False for cell in ("onlstm", "lstm"))
    return Decision(holds, below, measured), reached


def agree_with_annotated(
    own: Any, plain: Any, controls: Mapping[str, float], right: float, perplexity: Any, of_counts: float
) -> tuple[Decision, bool]:
    """onlstm.claim2; and whether it is reached.

    Args:
        own, plain: F1 of each seed, of the ON-LSTM and the LSTM.
        controls: F1 from levels without a network, "random" among them.
        right: F1 of right-branching trees.
        perplexity: of each seed of the ON-LSTM, on the text's test part.
        of_counts: the same of counts of five words.
    """
    own, plain, perplexity = (np.asarray(values, dtype=float) for values in (own, plain, perplexity))
    over = {name: mean_interval(own - f1) for name, f1 in controls.items()}
    random = over["random"].beyond()
    every = all(gain.beyond() for gain in [*over.values(), mean_interval(own - plain)])
    above_right = mean_interval(own - right)
    reached = bool(above_right.beyond()) and mean_interval(perplexity).beyond(of_counts) is False
    measured = {
        "F1, ON-LSTM less right-branching": above_right,
        "less random levels": over["random"],
        "less LSTM": mean_interval(own - plain),
    }
    return Decision(every or (None if random is None else False), random is True, measured), reached

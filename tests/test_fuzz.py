"""Hostile input to all public functions and classes: a finite result, or an error that names an argument.

Of a call that is right one argument or two are replaced: by NaN, infinities, huge or negative numbers, other
types, dtypes and shapes, nothing at all. Sizes are never merely large: that memory does not suffice is no
matter of checks. KEXUE_FUZZ=500 tries so many replacements for each function instead of a few.
"""

import dataclasses
import importlib
import inspect
import math
import os
import pkgutil
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from scipy import sparse
from seeded import gen, randn
from torch.distributions import Normal

import kexue
from kexue import decoding, gumbel, infomap, masking, onlstm, reading, vqvae
from kexue.data import Source, TaggedText
from kexue.nn.attention import Attention, Block
from kexue.runs import Step

EXAMPLES = int(os.environ.get("KEXUE_FUZZ", "4"))


def x(*shape: int, seed: int = 0) -> torch.Tensor:
    return randn(*shape, seed=seed, dtype=torch.float32)


def ids(*shape: int, high: int = 4, low: int = 0) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=gen(1))


def seeded(make: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """A module with the same weights each time."""
    torch.manual_seed(0)
    return make(*arguments, **options).eval()


def images(*shape: int) -> torch.Tensor:
    return (x(*shape) > 0).float()


def vae() -> gumbel.CategoricalVAE:
    return seeded(gumbel.CategoricalVAE, 2, 3, (2, 2), 4, 4)


def codes() -> vqvae.VectorQuantizer:
    return seeded(vqvae.VectorQuantizer, 5, 4)


def flow() -> infomap.Flow:
    return infomap.random_walk_flow(nx.path_graph(3), 0)


def code() -> infomap.HierarchicalCode:
    return infomap.HierarchicalCode.fit("abab", {"a": 0, "b": 1})


TEXT = TaggedText((("a", "b"), ("a",)), (("n", "v"), ("n",)), Source("", "", "", "", "", ""))
MASK = torch.tensor([[True, True, False], [True, False, False], [True, True, True]])
PHOTO = torch.rand(3, 20, 24, generator=gen())

# Arguments of a call that is right, in order; of a method, first the object. Made anew for each call.
TARGETS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "smoothing.smooth_max": lambda: (x(3, 4), 2.0, -1),
    "smoothing.soft_onehot": lambda: (x(3, 4), 2.0, -1),
    "smoothing.soft_argmax": lambda: (x(3, 4), 2.0, -1),
    "smoothing.soft_k_max": lambda: (x(3, 4), 2, -1),
    "smoothing.soft_top_k": lambda: (x(3, 4), 2, 2.0, -1),
    "smoothing.soft_accuracy": lambda: (x(3, 4).softmax(-1), ids(3)),
    "smoothing.floored_accuracy": lambda: (x(3, 4).log_softmax(-1), ids(3), 0.1),
    "smoothing.soft_macro_f1": lambda: (x(3, 4).softmax(-1), ids(3), 1e-8),
    "smoothing.soft_f1": lambda: (x(3, 4).sigmoid(), ids(3, 4, high=2), 1e-8),
    "smoothing.soft_recall": lambda: (x(3, 4).sigmoid(), ids(3, 4, high=2), 1e-8),
    "smoothing.soft_precision": lambda: (x(3, 4).sigmoid(), ids(3, 4, high=2), 1e-8),
    "gumbel.gumbel_noise": lambda: ((3, 4), gen()),
    "gumbel.gumbel_max": lambda: (x(3, 4), gen()),
    "gumbel.gumbel_softmax": lambda: (x(3, 4), 0.5, False, -1, gen()),
    "gumbel.reparam_grad": lambda: (torch.sin, Normal, {"loc": 0.0, "scale": x(1).abs()[0]}, 3),
    "gumbel.score_function_grad": lambda: (torch.sin, Normal, {"loc": 0.0, "scale": x(1).abs()[0]}, 3, 0.5),
    "gumbel.CategoricalVAE": lambda: (2, 3, (2, 2), 4, 4),
    "gumbel.CategoricalVAE.encode": lambda: (vae(), images(2, 4, 4)),
    "gumbel.CategoricalVAE.decode": lambda: (vae(), x(2, 2, 3)),
    "gumbel.CategoricalVAE.forward": lambda: (vae(), images(2, 4, 4), torch.sigmoid),
    "gumbel.elbo": lambda: (images(2, 4, 4), x(2, 4, 4), x(2, 2, 3)),
    "gumbel.vae_loss": lambda: (vae(), images(2, 4, 4), x(1, 2, 2, 3), "gumbel", 0.5),
    "gumbel.evaluate_elbo": lambda: (vae(), images(2, 4, 4), gen(), 2),
    "vqvae.nearest": lambda: (x(3, 4), x(5, 4, seed=1)),
    "vqvae.rotate_onto": lambda: (x(3, 4), x(3, 4, seed=1)),
    "vqvae.VectorQuantizer": lambda: (5, 4, 1.0, 0.25, 0.9, "rotation", 3),
    "vqvae.VectorQuantizer.forward": lambda: (codes(), x(3, 4), gen()),
    "vqvae.VectorQuantizer.start": lambda: (codes(), x(3, 4), gen()),
    "vqvae.FiniteScalarQuantizer": lambda: ([3, 4],),
    "vqvae.FiniteScalarQuantizer.forward": lambda: (vqvae.FiniteScalarQuantizer([3, 4]), x(3, 2), gen()),
    "vqvae.VQVAE": lambda: (1, 4, 5, 4, 2, 1, codes()),
    "vqvae.VQVAE.encode": lambda: (seeded(vqvae.VQVAE, 1, 4, 5, 4, 2), x(2, 1, 4, 4)),
    "vqvae.VQVAE.decode": lambda: (seeded(vqvae.VQVAE, 1, 4, 5, 4, 2), x(2, 2, 2, 4)),
    "vqvae.VQVAE.decode_codes": lambda: (seeded(vqvae.VQVAE, 1, 4, 5, 4, 2), ids(2, 2, 2)),
    "vqvae.VQVAE.forward": lambda: (seeded(vqvae.VQVAE, 1, 4, 5, 4, 2), x(2, 1, 4, 4), gen()),
    "vqvae.TwoLevelVQVAE": lambda: (1, 4, 4, 2, (codes(), codes()), 1),
    "vqvae.TwoLevelVQVAE.forward": lambda: (seeded(vqvae.TwoLevelVQVAE, 1, 4, 4, 2, (codes(), codes())), x(2, 1, 4, 4), gen()),
    "vqvae.image_quality": lambda: (x(2, 3, 12, 12).tanh(), x(2, 3, 12, 12)),
    "vqvae.gradient_agreement": lambda: (x(2, 3, 4, 4), x(2, 3, 4, 4, seed=1)),
    "vqvae.generation_order": lambda: ("centre_out", 2, 3),
    "vqvae.PixelAttention": lambda: (5, (2, 3), 4, 2, 1, "raster", 0.1),
    "vqvae.PixelAttention.forward": lambda: (seeded(vqvae.PixelAttention, 5, (2, 3), 4, 2, 1), ids(2, 2, 3)),
    "vqvae.PixelAttention.log_prob": lambda: (seeded(vqvae.PixelAttention, 5, (2, 3), 4, 2, 1), ids(2, 2, 3)),
    "vqvae.PixelAttention.sample": lambda: (seeded(vqvae.PixelAttention, 5, (2, 3), 4, 2, 1), (2, 2, 3), gen()),
    "vqvae.PixelCNN": lambda: (5, 4, 2, 3, 0.1),
    "vqvae.PixelCNN.forward": lambda: (seeded(vqvae.PixelCNN, 5, 4, 2), ids(2, 2, 3)),
    "vqvae.PixelCNN.log_prob": lambda: (seeded(vqvae.PixelCNN, 5, 4, 2), ids(2, 2, 3)),
    "vqvae.PixelCNN.sample": lambda: (seeded(vqvae.PixelCNN, 5, 4, 2), (2, 2, 3), gen()),
    "infomap.entropy": lambda: ([0.5, 0.5],),
    "infomap.kraft_sum": lambda: ([1, 2, 2],),
    "infomap.huffman_code": lambda: ({"a": 0.5, "b": 0.5},),
    "infomap.HierarchicalCode.fit": lambda: ("abab", {"a": 0, "b": 1}),
    "infomap.HierarchicalCode.encode": lambda: (code(), "abba"),
    "infomap.HierarchicalCode.decode": lambda: (code(), code().encode("abba")),
    "infomap.HierarchicalCode.costs": lambda: (code(), "abba"),
    "infomap.stationary_distribution": lambda: (np.array([[0.0, 1.0], [0.5, 0.5]]), 0.15),
    "infomap.random_walk_flow": lambda: (sparse.csr_array(np.array([[0.0, 1.0], [1.0, 0.5]])), 0.15),
    "infomap.overlapping_flow": lambda: (nx.path_graph(3), {0: [0], 1: [0, 1], 2: [1]}),
    "infomap.neighbour_graph": lambda: (np.array([[1.0, 2.0], [2.0, 1.0]]), 1, 0.5),
    "infomap.map_equation": lambda: (flow(), [0, 0, 1]),
    "infomap.hierarchical_map_equation": lambda: (flow(), [[0, 0, 1], [0, 1, 2]]),
    "infomap.infomap": lambda: (nx.path_graph(3), 0.15, 0, 2, 1, "numpy"),
    "infomap.search_stages": lambda: (nx.path_graph(3), 0.15, 0),
    "infomap.annealed_infomap": lambda: (nx.path_graph(3), 0.15, 0, 2),
    "infomap.rewired": lambda: (nx.path_graph(3), 0, "strengths", [0, 1, 0]),
    "infomap.compare_with_rewired": lambda: (nx.path_graph(3), 2, 0, 1, "shuffled", [0, 1, 0], "numpy", 0.0),
    "masking.sequence_mask": lambda: (torch.tensor([1, 3]), 3),
    "masking.lengths_of": lambda: (MASK.clone(),),
    "masking.masked_softmax": lambda: (x(3, 3), MASK.clone(), -1),
    "masking.masked_mean": lambda: (x(3, 3), MASK.clone(), -1),
    "masking.masked_max": lambda: (x(3, 3), MASK.clone(), -1),
    "masking.reverse_sequence": lambda: (x(3, 3), torch.tensor([2, 1, 3]), 1),
    "masking.BiRNN": lambda: (seeded(torch.nn.GRU, 2, 3, batch_first=True), "concat"),
    "masking.TextClassifier": lambda: (5, 2, 4, 4, "attention", "everywhere", 0.1),
    "masking.predict": lambda: (seeded(masking.TextClassifier, 5, 2, 4, 4), [ids(3), ids(2)], 1, 2),
    "nn.attention.causal_mask": lambda: (3,),
    "nn.attention.rotary": lambda: (x(3, 4), torch.arange(3), 1e4),
    "nn.attention.Attention": lambda: (4, 2),
    "nn.attention.Attention.key_values": lambda: (seeded(Attention, 4, 2), x(2, 3, 4)),
    "nn.attention.Block": lambda: (4, 2, 8, 0.1),
    "nn.attention.Block.forward": lambda: (seeded(Block, 4, 2), x(2, 3, 4), None),
    "nn.autograd.straight_through": lambda: (x(3), x(3, seed=1)),
    "nn.randomness.generator": lambda: (0, 1, 2),
    "onlstm.cumax": lambda: (x(3, 4), -1),
    "onlstm.reverse_cumax": lambda: (x(3, 4), -1),
    "onlstm.locked_dropout": lambda: (x(4, 4, 3), 0.5, True),
    "onlstm.segmented_update": lambda: (x(2, 4), x(2, 4), x(2, 4), x(2, 4), 1, 2),
    "onlstm.LSTMCell": lambda: (4, 4),
    "onlstm.ONLSTMCell": lambda: (4, 4, 2, "cumsum"),
    "onlstm.LSTM": lambda: (4, (4, 4), 0.1, 0.1),
    "onlstm.LSTM.forward": lambda: (seeded(onlstm.LSTM, 4, (4, 4)), x(3, 3, 4)),
    "onlstm.ONLSTM": lambda: (4, 4, 2, 2, 0.1),
    "onlstm.ONLSTM.forward": lambda: (seeded(onlstm.ONLSTM, 4, 4, 2, 2), x(3, 3, 4)),
    "onlstm.LanguageModel": lambda: (5, (4, 4), "onlstm", 2),
    "onlstm.LanguageModel.forward": lambda: (seeded(onlstm.LanguageModel, 5, (4, 4), chunk_size=2), ids(3, 3)),
    "onlstm.balanced": lambda: (["a", "b", "c"],),
    "onlstm.left_branching": lambda: (["a", "b", "c"],),
    "onlstm.right_branching": lambda: (["a", "b", "c"],),
    "onlstm.leaves": lambda: (["a", ["b", "c"]],),
    "onlstm.brackets": lambda: (["a", ["b", "c"]],),
    "onlstm.best_tree": lambda: (["a", ["b", "c"]], "article"),
    "onlstm.bracket_f1": lambda: (["a", ["b", "c"]], [["a", "b"], "c"]),
    "onlstm.corpus_f1": lambda: ([["a", ["b", "c"]]], [[["a", "b"], "c"]]),
    "onlstm.split_tree": lambda: (["a", "b", "c"], [0.1, 0.2, 0.3]),
    "onlstm.tree_from_levels": lambda: (["a", "b", "c"], [0.1, 0.2, 0.3]),
    "decoding.Seq2Seq": lambda: (6, 6, 4, 2, 1, 1, 0.1, "l2r"),
    "decoding.BidirectionalSeq2Seq": lambda: (6, 6, 4, 2, 1, 1, 0.1, "shared"),
    "decoding.beam_search": lambda: (seeded(decoding.Seq2Seq, 6, 6, 4, 2, 1, 1), ids(2, 3, low=3, high=6), 2, 4),
    "decoding.bidirectional_beam_search": lambda: (seeded(decoding.BidirectionalSeq2Seq, 6, 6, 4, 2, 1, 1), ids(2, 3, low=3, high=6), 2, 4, "mean"),
    "decoding.cross_entropy": lambda: (seeded(decoding.Seq2Seq, 6, 6, 4, 2, 1, 1), ids(2, 3, low=3, high=6), ids(2, 3, low=3, high=6)),
    "decoding.token_log_probs": lambda: (seeded(decoding.Seq2Seq, 6, 6, 4, 2, 1, 1), ids(2, 3, low=3, high=6), ids(2, 3, low=3, high=6)),
    "decoding.error_rate": lambda: ([(3, 4)], [[(3, 5)]]),
    "decoding.pad_ids": lambda: ([(3, 4), (5,)],),
    "decoding.with_markers": lambda: (ids(2, 3, low=3, high=6), "l2r", (1, 2)),
    "decoding.without_markers": lambda: ((3, 4, 2), "l2r", (1, 2)),
    "reading.Characters": lambda: (["ab", "bc"], 1),
    "reading.Characters.encode": lambda: (reading.Characters(["ab", "bc"]), "abc"),
    "reading.ClozeDataset": lambda: (TEXT, ("nr",), 20, 20, 2),
    "reading.LinearChainCRF": lambda: (3,),
    "reading.LinearChainCRF.forward": lambda: (seeded(reading.LinearChainCRF, 3), x(3, 3, 3), ids(3, 3, high=3), MASK.clone()),
    "reading.LinearChainCRF.log_partition": lambda: (seeded(reading.LinearChainCRF, 3), x(3, 3, 3), MASK.clone()),
    "reading.LinearChainCRF.decode": lambda: (seeded(reading.LinearChainCRF, 3), x(3, 3, 3), MASK.clone()),
    "reading.MaskedLM": lambda: (6, 4, 2, 1, 0.1, 8),
    "reading.answer_f1": lambda: ("北京", ["北京市"]),
    "reading.exact_match": lambda: ("北京", ["北京市"]),
    "reading.normalized": lambda: ("北 京",),
    "reading.product_of_marginals": lambda: (x(6).softmax(0).view(2, 3),),
    "reading.total_correlation": lambda: (x(6).softmax(0).view(2, 3),),
    "reading.segmentation_counts": lambda: (["ab", "c"], ["a", "bc"]),
    "reading.tags_of_words": lambda: (["ab", "c"],),
    "reading.words_of_tags": lambda: ("abc", [0, 1, 3]),
    "reading.vote": lambda: ([reading.Answer("a", 1.0), reading.Answer("b", 0.5)],),
    "data.centre_square": lambda: (PHOTO.clone(), 8),
    "data.smaller": lambda: (PHOTO.clone(), 2.0),
    "data.tiles": lambda: (PHOTO.clone(), 8),
    "data.views": lambda: (PHOTO.clone(), 8),
    "data.parse_brackets": lambda: ("( (S (NN a) (VB b)) )", False),
    "data.plain_english": lambda: (["a", "b"],),
    "data.stratified_split": lambda: (ids(20, high=2), (0.5, 0.5), gen()),
    "data.Vocabulary": lambda: ([["a", "b"], ["a"]], 1),
    "runs.Step": lambda: (0, 0, 0, 1),
    "runs.Step.batch": lambda: (Step(0, 0), 10, 4),
    "runs.different_settings": lambda: ({"a": 1}, TEXT.source),
    "runs.cosine": lambda: (10,),
    "runs.warm_up_then_down": lambda: (2, 10),
    "runs.statistics.mean_interval": lambda: (np.array([1.0, 2.0, 4.0]),),
    "runs.statistics.false_alarms": lambda: (lambda samples: True, 1.0, 3, 0.5, 10, np.random.default_rng(0)),
}  # fmt: skip
TARGETS |= {
    f"{place}.straight_through": TARGETS["nn.autograd.straight_through"] for place in ("gumbel", "vqvae")
}


# --- Hostile values ----------------------------------------------------------------------------

ODD = (None, "text", True, 1.5, -1, 0, math.nan, math.inf, -(10**20), [], [None], {}, torch.zeros(2, 2), object())  # fmt: skip
KINDS = (torch.bool, torch.int8, torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64)  # fmt: skip
HARD = (math.nan, math.inf, -math.inf, 3e38, -3e38, 1e-40)


def with_entry(value: Any, entry: float) -> Any:
    changed = value.clone() if isinstance(value, torch.Tensor) else value.copy()
    changed.reshape(-1)[0] = entry
    return changed


def hostile_tensors(value: torch.Tensor) -> list[Any]:
    """Other shapes and dtypes; of numbers, also such as are hard to compute with."""
    value = value.detach()
    found: list[Any] = [value.numpy(), value.tolist(), value.to_sparse(), torch.cat([value, value], -1)]
    found += [value[:0], value[..., :0], value[None], value[0], value[..., :1]]
    found += [value.to(kind) for kind in KINDS] + [
        value.clone(),
        torch.zeros_like(value),
        torch.ones_like(value),
    ]
    if value.is_floating_point():
        found += [
            value.clone().requires_grad_(),
            torch.full_like(value, 6e4).half(),
            torch.full_like(value, 3e38),
        ]
        return (
            found
            + [value * factor for factor in (-1, 1e4, 1e20, 1e38)]
            + [with_entry(value, n) for n in HARD]
        )
    if value.dtype != torch.bool:
        found += [value - 10, value + 1, value + 2**62, with_entry(value, -1), with_entry(value, 2**40)]
    return found


def hostile(value: Any) -> list[Any]:
    if isinstance(value, torch.Tensor):
        return [*ODD, *hostile_tensors(value)]
    if isinstance(value, np.ndarray):
        found = [value[:0], value[None], value[0], value.astype(complex), value.astype(str), 0 * value]
        return [*ODD, *found, np.full_like(value, 1e308), *(with_entry(value, entry) for entry in HARD)]
    if isinstance(value, float | int):
        numbers = (str(value), -float(value), np.float64(value), torch.tensor(value), [value])
        return [*ODD, *numbers, 1e-320, 1e-30, 1e30, 10**400]
    if isinstance(value, str):
        return [*ODD, "", value + value, value.encode()]
    if isinstance(value, tuple | list):
        found = [value[:-1], [*value, *value[:1]], [*value[:-1], value]]
        return [
            *ODD,
            *found,
            *([*value[:-1], odd] for odd in (*ODD, 10**400)),
            *((*value[:-1], odd) for odd in ODD),
        ]
    if isinstance(value, dict):
        first, named = next(iter(value)), [odd for odd in ODD if not isinstance(odd, torch.Tensor)]
        return [
            *ODD,
            {k: v for k, v in value.items() if k != first},
            *(value | {first: odd} for odd in named),
        ]
    if isinstance(value, nx.Graph):
        found = [nx.Graph(), nx.DiGraph([(0, 1)]), nx.empty_graph(3), nx.Graph([(0, 0)])]
        return [*ODD, *found, *(nx.Graph([(0, 1, {"weight": odd})]) for odd in (*ODD, 1e308, 10**400))]
    if callable(value):
        return [
            *ODD,
            *(lambda *given, answer=answer, **named: answer for answer in (None, math.nan, x(2, 2))),
        ]
    return list(ODD)


# --- What a call must end in -------------------------------------------------------------------


def function(name: str) -> Callable[..., Any]:
    module, rest = name.rpartition(".")[0], name.rpartition(".")[2:]
    try:
        return getattr(importlib.import_module(f"kexue.{module}"), rest[0])
    except ModuleNotFoundError:
        return getattr(function(module), rest[0])


def numbers_in(value: Any, depth: int = 0) -> list[np.ndarray]:
    """All floating-point numbers that a value holds."""
    if isinstance(value, torch.Tensor):
        return [value.detach().to_dense().double().numpy()] if value.is_floating_point() else []
    if isinstance(value, np.ndarray | float):
        return [np.asarray(value)] if np.asarray(value).dtype.kind == "f" else []
    if sparse.issparse(value):
        value = [value.toarray()]
    elif isinstance(value, torch.nn.Module):
        value = list(value.state_dict().values())
    elif isinstance(value, nx.Graph):
        value = [weight for *_, weight in value.edges(data="weight", default=1)]
    elif isinstance(value, Mapping):
        value = list(value.values())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = list(vars(value).values())
    if not isinstance(value, tuple | list) or depth > 4:
        return []
    return [number for part in value for number in numbers_in(part, depth + 1)]


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, NaN and types included, as far as tensors, arrays and containers go."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        one, other = (each.detach().to_dense() for each in (one, other))
        return one.dtype == other.dtype and torch.allclose(one, other, 0, 0, equal_nan=True)
    if isinstance(one, np.ndarray):
        return one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return True


def shapes(value: Any) -> list[tuple[int, ...]]:
    return [number.shape for number in numbers_in(value)]


def arguments(name: str) -> set[str]:
    """Names that an error may say: of the function's arguments, or those of all that a method's class offers."""
    owner = name.rpartition(".")[0]
    of = [function(name)]
    if "." in owner and inspect.isclass(function(owner)):
        methods = inspect.getmembers(function(owner), inspect.isfunction)
        of += [function(owner), *(f for key, f in methods if key[0] != "_" and f.__module__[:5] == "kexue")]
    return {parameter for each in of for parameter in inspect.signature(each).parameters} - {"self"}


def complaint(name: str, replaced: Mapping[int, int]) -> str:
    """What is wrong with how a call ends whose arguments at these places are the hostile ones of these numbers."""
    call, make = function(name), TARGETS[name]
    good, given, untouched = make(), list(make()), list(make())
    for place, which in replaced.items():
        given[place], untouched[place] = (hostile(good[place])[which] for _ in range(2))
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            result = call(*given)
        except (TypeError, ValueError) as error:
            text = str(error)
            if "must" not in text or not any(re.search(rf"\b{word}\b", text) for word in arguments(name)):
                return f"{type(error).__name__} that names no argument: {text[:200]}"
        except Exception as error:
            if "can't allocate memory" in str(error):
                return ""
            return f"{type(error).__name__}: {str(error)[:200]}"
        else:
            bad = np.isnan if name in INFINITE else lambda number: ~np.isfinite(number)
            before, after = (any(bad(n).any() for n in numbers_in(part)) for part in (given, result))
            large = any((np.abs(n) >= 1e4).any() for n in numbers_in(given))
            if after and not before and not (large and name in OVERFLOWING):
                return "a result that is not finite"
            tensors = all(torch.is_tensor(good[i]) and good[i].is_floating_point() for i in replaced)
            if tensors and shapes(given) == shapes(good) and shapes(result) != shapes(call(*good)):
                return f"a result of the shapes {shapes(result)}"
    return "" if all(map(same, given, untouched)) else "an argument changed"


def places(name: str) -> list[int]:
    """The arguments that may be replaced: not the object of a method, nor what is only asked whether it is true."""
    own = list(inspect.signature(function(name)).parameters)
    first = 1 if own[0] == "self" else 0
    return [i for i, value in enumerate(TARGETS[name]()) if i >= first and not isinstance(value, bool)]


# --- The tests ---------------------------------------------------------------------------------

# Functions of which ±∞ is a right result.
INFINITE = {
    "vqvae.image_quality": "the PSNR of equal images is ∞",
    "masking.masked_mean": "a sum may overflow, as in torch.mean",
    "reading.LinearChainCRF.log_partition": "a sum over places may overflow",
}
# Formulas whose intermediate results may overflow, to NaN as well, where an argument has numbers from 10⁴ on (of
# which the square is too large for half precision). To see that would cost a pass over tensors in each step.
OVERFLOWING = {
    "nn.attention.Attention.key_values": "products of matrices",
    "nn.attention.Block.forward": "sums of squares in the norms, and products of matrices",
    "nn.attention.rotary": "a turned vector may have a larger entry than the dtype holds",
    "onlstm.locked_dropout": "what is not dropped is made larger",
    "onlstm.segmented_update": "products with gates that are none: outside [0, 1]",
    "reading.LinearChainCRF.forward": "the difference of two sums",
}
NOT_CALLED = {
    "data.fetch": "downloads",
    "data.read_photograph": "reads a file",
    "data.mnist_parts": "reads files",
    "data.treebank": "reads files",
    "masking.BiRNN": "takes one of torch's layers; see TextClassifier",
    "nn.beam.Beam": "what a search holds between steps; see decoding.beam_search",
    "nn.modes.evaluating": "a context",
    "nn.sequences.pad_ids": "see decoding.pad_ids",
    "onlstm.kneser_ney": "takes vectors of ids, as numpy has them; see tests of counts",
    "onlstm.master_levels": "takes a trained model",
    "onlstm.tree_scores": "takes a trained model",
    "onlstm.divided": "takes a function of places; see split_tree",
    "onlstm.ONLSTMCell.forward": "see ONLSTM",
    "reading.HuggingFaceEncoder": "reads a folder",
    "reading.MLMReader": "takes an encoder; see tests of reading",
    "reading.Seq2SeqReader": "takes an encoder; see tests of reading",
    "reading.most_frequent_entity": "takes a record of the data",
    "reading.word_places": "see tags_of_words",
    "runs.Run": "reads a folder",
    "runs.command_line": "reads the command line",
    "runs.digest": "of a record",
    "runs.measure": "writes a folder; see tests of runs",
    "runs.recorded": "reads a folder",
    "runs.set_seed": "changes the seeds of the process",
    "runs.sha256": "of bytes",
    "runs.table": "reads a folder",
    "runs.train_network": "trains and writes a folder",
    "runs.train_transformer": "trains and writes a folder",
    "runs.train": "trains and writes a folder; see tests of runs",
}


def public() -> set[str]:
    """Functions and classes of all modules with `__all__`, but records, types, and what takes no argument."""
    found = set()
    for info in pkgutil.walk_packages(kexue.__path__, "kexue."):
        if re.match(r"kexue\.(book|experiments)|kexue\.nn\.checks", info.name):
            continue
        for name in getattr(module := importlib.import_module(info.name), "__all__", ()):
            value = getattr(module, name)
            called = inspect.isfunction(value)
            if inspect.isclass(value) and value.__module__.startswith("kexue"):
                record = dataclasses.is_dataclass(value) or issubclass(value, tuple)
                called = not record and not getattr(value, "_is_protocol", False)
            if called and inspect.signature(value).parameters:
                found.add(f"{info.name}.{name}".removeprefix("kexue."))
    return found


@pytest.mark.slow
def test_all_that_is_public_is_called_or_let_be_for_a_reason():
    assert public() - {*TARGETS, *NOT_CALLED} == set()
    assert set(TARGETS) >= {*INFINITE, *OVERFLOWING}


@pytest.mark.slow
@pytest.mark.unchecked
@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=EXAMPLES, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(st.data())
def test_hostile_input_is_refused_by_name_or_gives_a_finite_result(name, data):
    function(name)(*TARGETS[name]())
    chosen = data.draw(st.lists(st.sampled_from(places(name)), min_size=1, max_size=2, unique=True))
    good = TARGETS[name]()
    replaced = {place: data.draw(st.integers(0, len(hostile(good[place])) - 1)) for place in chosen}
    assert complaint(name, replaced) == "", {
        place: hostile(good[place])[which] for place, which in replaced.items()
    }

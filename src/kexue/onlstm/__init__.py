"""ON-LSTM: neurons in an order, from low levels that change fast to high ones that stay, and its trees.

Source: 苏剑林, 《ON-LSTM：用有序神经元表达层次结构》, https://kexue.fm/archives/6621; the paper is Y. Shen,
S. Tan, A. Sordoni and A. Courville, Ordered Neurons, ICLR 2019.
The ids in brackets (onlstm.eq9) are rows of the ledger.

Shapes: B batch, T time, H hidden, n levels of q neurons each, H = n·q. Level 1 of the formulas is index 0.

Bad input raises `TypeError` for a wrong type and `ValueError` for a value outside the domain; the
message names the argument and the value.
"""

from kexue.data import Tree
from kexue.onlstm.cells import LSTMCell, MasterInput, ONLSTMCell, State
from kexue.onlstm.counts import kneser_ney
from kexue.onlstm.gates import cumax, reverse_cumax, segmented_update
from kexue.onlstm.language_model import Cell, LanguageModel, Prediction
from kexue.onlstm.layers import LSTM, ONLSTM, locked_dropout
from kexue.onlstm.parsing import baseline_scores, master_levels, protocol_scores, tree_scores
from kexue.onlstm.recurrence import Trace, deterministic_recurrence
from kexue.onlstm.trees import (
    Rule,
    Span,
    balanced,
    best_tree,
    bracket_f1,
    brackets,
    corpus_f1,
    divided,
    leaves,
    left_branching,
    right_branching,
    split_tree,
    tree_from_levels,
)

__all__ = [
    "LSTM",
    "ONLSTM",
    "Cell",
    "LSTMCell",
    "LanguageModel",
    "MasterInput",
    "ONLSTMCell",
    "Prediction",
    "Rule",
    "Span",
    "State",
    "Trace",
    "Tree",
    "balanced",
    "baseline_scores",
    "best_tree",
    "bracket_f1",
    "brackets",
    "corpus_f1",
    "cumax",
    "deterministic_recurrence",
    "divided",
    "kneser_ney",
    "leaves",
    "left_branching",
    "locked_dropout",
    "master_levels",
    "protocol_scores",
    "reverse_cumax",
    "right_branching",
    "segmented_update",
    "split_tree",
    "tree_from_levels",
    "tree_scores",
]

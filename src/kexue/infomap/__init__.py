"""Codes, the map equation and its search: communities as the shortest description of a walk.

Source: 苏剑林, 《最小熵原理（五）：“层层递进”之社区发现与聚类》, https://kexue.fm/archives/7006.
The ids in brackets (infomap.eq11) are rows of the ledger. All lengths are in bits.

Bad input raises `TypeError` for a wrong type and `ValueError` for a value outside the domain; the
message names the argument and the value.
"""

from kexue.infomap.codelength import Partition, hierarchical_map_equation, map_equation
from kexue.infomap.codes import EXIT, HierarchicalCode, Symbol, entropy, huffman_code, kraft_sum
from kexue.infomap.null import Comparison, Null, compare_with_rewired, rewired
from kexue.infomap.search import Communities, Engine, Stage, annealed_infomap, infomap, search_stages
from kexue.infomap.two_levels import Watch
from kexue.infomap.walk import (
    Flow,
    neighbour_graph,
    overlapping_flow,
    random_walk_flow,
    stationary_distribution,
)

__all__ = [
    "EXIT",
    "Communities",
    "Comparison",
    "Engine",
    "Flow",
    "HierarchicalCode",
    "Null",
    "Partition",
    "Stage",
    "Symbol",
    "Watch",
    "annealed_infomap",
    "compare_with_rewired",
    "entropy",
    "hierarchical_map_equation",
    "huffman_code",
    "infomap",
    "kraft_sum",
    "map_equation",
    "neighbour_graph",
    "overlapping_flow",
    "random_walk_flow",
    "rewired",
    "search_stages",
    "stationary_distribution",
]

"""The C++ package of the map equation's authors, whose name a script in the working folder may have."""

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from types import ModuleType

import numpy as np


def authors_package() -> ModuleType:
    """The package `infomap`, which is looked for everywhere but in the working folder, and loads when used.

    A notebook looks there first, and the chapter about InfoMap has this name, too. Raises ImportError where
    it is not installed (pip install infomap).
    """
    if "infomap" in sys.modules:
        return sys.modules["infomap"]
    searched = sys.path[:]
    sys.path[:] = [folder for folder in searched if folder not in ("", os.getcwd())]
    try:
        found = importlib.util.find_spec("infomap")
    finally:
        sys.path[:] = searched
    if found is None or found.loader is None:
        raise ImportError("engine 'infomap' needs the package infomap: pip install infomap", name="infomap")
    found.loader = importlib.util.LazyLoader(found.loader)
    package = importlib.util.module_from_spec(found)
    sys.modules["infomap"] = package
    found.loader.exec_module(package)
    return package


def modules_by_package(
    nodes: int, links: Iterable[tuple[int, int, float]], flags: str
) -> tuple[np.ndarray, ...]:
    """Modules of nodes 0, 1, …, from the coarsest level to the finest, with these flags of the package."""
    search = authors_package().Infomap(f"--silent {flags}")
    for node in range(nodes):
        search.add_node(node)
    search.add_links(links)
    if nodes == 1:  # the package gives no modules then
        return (np.zeros(1, dtype=int),)
    paths = search.run().multilevel_modules()
    depth = max(map(len, paths.values()))
    return tuple(
        np.unique(
            [paths[node][min(level, len(paths[node]) - 1)] for node in range(nodes)], return_inverse=True
        )[1]
        for level in range(depth)
    )


# Now, since networkx, of which the package is a backend, imports it by its name.
with contextlib.suppress(ImportError):
    authors_package()

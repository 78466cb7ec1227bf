"""The C++ package of the map equation's authors, whose name a script in the working folder may have."""

import contextlib
import os
import sys
from types import ModuleType


def authors_package() -> ModuleType:
    """The package `infomap`, which is looked for everywhere but in the working folder.

    A notebook looks there first, and the chapter about InfoMap has this name, too. Raises ImportError where
    it is not installed (pip install infomap).
    """
    searched = sys.path[:]
    sys.path[:] = [folder for folder in searched if folder not in ("", os.getcwd())]
    try:
        import infomap
    finally:
        sys.path[:] = searched
    return infomap


# Now, since networkx, of which the package is a backend, imports it by its name.
with contextlib.suppress(ImportError):
    authors_package()

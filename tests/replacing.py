"""A name replaced in all modules of a package that hold it."""

import sys
from types import ModuleType

import pytest


def replace(place: object, name: str, fault: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a fault in the place of what has a name: in a dict, an object, or all of a package's modules."""
    if isinstance(place, dict):
        monkeypatch.setitem(place, name, fault)
    elif isinstance(place, ModuleType):
        modules = [
            module
            for key, module in sys.modules.items()
            if (key == place.__name__ or key.startswith(place.__name__ + ".")) and name in vars(module)
        ]
        assert modules, f"{place.__name__} has no {name}"
        for module in modules:
            monkeypatch.setattr(module, name, fault)
    else:
        monkeypatch.setattr(place, name, fault)

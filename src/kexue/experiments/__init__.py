"""The long trainings behind the chapters, one module each: `python -m kexue.experiments.<name>`.

A module declares its settings (`Config`, `SCALES`, `RECORDINGS`), makes a model of them (`build`) and trains
it (`run`, with the data, the loss and the measures of `Training`). `recorded` reads what runs left. Where
nothing is trained, `run` only measures.
"""

import dataclasses
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from kexue import runs

__all__ = ["RecordedRun", "recorded"]


class RecordedRun(runs.Run):
    """A run that knows the experiment that made it."""

    @property
    def experiment(self) -> ModuleType:
        found: ModuleType = pkgutil.resolve_name(self.module)  # which tools/imports.py reads, too
        return found

    @property
    def settings(self) -> Any:
        """Its configuration, as the experiment's dataclass; younger settings at their defaults."""
        kind = self.experiment.Config
        known = {field.name for field in dataclasses.fields(kind)}
        if unknown := sorted(set(self.config) - known):
            raise ValueError(f"run {self.name} has settings that {self.module} does not know: {unknown}")
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in self.config.items()})

    def model(self) -> nn.Module:
        """The trained model, in evaluation mode.

        Raises FileNotFoundError where no weights were kept.
        """
        if not (self.folder / "weights.safetensors").is_file():
            raise FileNotFoundError(f"run {self.name} kept no weights: its model is not there")
        model: nn.Module = self.experiment.build(self.settings)
        self.load_weights(model)
        return model.eval()


def recorded(name: str, folder: Path | None = None) -> dict[str, RecordedRun]:
    """The finished runs of an experiment by trial: `recorded("vqvae_photos")["0"].model()`.

    Raises ValueError where there are none.
    """
    return {trial: RecordedRun(run.folder) for trial, run in runs.recorded(name, folder).items()}

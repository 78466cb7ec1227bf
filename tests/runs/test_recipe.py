"""The recipes beside the loop, with the optimisers and rates that they promise."""

from dataclasses import dataclass

import pytest
import torch
from seeded import randn
from torch import nn

from kexue import runs


@dataclass(frozen=True)
class Settings:
    seed: int = 0
    learning_rate: float = 0.1
    weight_decay: float = 0.5
    warmup: int = 3
    steps: int = 8
    every: int = 4
    keep_weights: bool = False


CONFIG = Settings()


class Line:
    """A training."""

    def __init__(self):
        self.x = randn(8, 3, dtype=torch.float32)

    def loss(self, model, step):
        return (model(self.x) - self.x.sum(1, keepdim=True)).square().mean(), {}

    def evaluate(self, model):
        return {"weight": float(model.weight.sum())}

    def finish(self, model):
        return {"test": 7.0}


def trained(folder, recipe, optimizer=None, **options):
    """The summary, by a recipe, or by the loop with an optimiser and all that the recipe should give it."""
    torch.manual_seed(0)
    model, training = nn.Linear(3, 1), Line()
    if recipe is not None:
        return recipe(model, training, CONFIG, folder, **options)
    return runs.train(
        model,
        training.loss,
        optimizer(model.parameters()),
        config=CONFIG,
        folder=folder,
        evaluate=training.evaluate,
        finish=training.finish,
        **options,
    )


@pytest.mark.slow
def test_a_network_is_trained_by_adam_as_one_object_says(tmp_path):
    options = {"schedule": runs.cosine(8), "max_norm": 0.1}
    found = trained(tmp_path / "recipe", runs.train_network, **options)
    assert found["test"] == 7
    assert found == trained(
        tmp_path / "loop", None, lambda given: torch.optim.Adam(given, lr=0.1, fused=True), **options
    )
    assert "stopped after step" in trained(tmp_path / "left", runs.train_network, stop_after=2)


@pytest.mark.slow
def test_a_transformer_is_trained_by_adamw_in_bfloat16(tmp_path):
    found = trained(tmp_path / "recipe", runs.train_transformer)
    assert found == trained(
        tmp_path / "loop",
        None,
        lambda given: torch.optim.AdamW(given, 0.1, (0.9, 0.98), weight_decay=0.5, fused=True),
        schedule=runs.warm_up_then_down(3, 8),
        max_norm=1.0,
        bf16=True,
    )
    assert found != trained(tmp_path / "other", runs.train_network)

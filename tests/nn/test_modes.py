"""Evaluation mode, and back."""

import pytest
import torch
from torch import nn

from kexue.nn.modes import evaluating


def test_every_module_has_its_own_mode_again():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    model[1].eval()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
    assert [module.training for module in model.modules()] == [True, True, False]
    with pytest.raises(RuntimeError, match="broken"), evaluating(model):
        raise RuntimeError("broken")
    assert [module.training for module in model.modules()] == [True, True, False]
    assert torch.is_grad_enabled()

"""Tables of numbers: shapes, scales, sources."""

import pytest
import torch

from kexue import data


def test_diabetes():
    table = data.diabetes()
    assert table.features.shape == (442, 10)
    assert table.features.dtype == table.target.dtype == torch.float32
    assert table.features.mean(0).abs().max() < 1e-5
    assert table.features.std(0, correction=0).tolist() == pytest.approx([1.0] * 10, abs=1e-5)
    assert (float(table.target.min()), float(table.target.max())) == (25, 346)
    assert table.source.title == "Diabetes"

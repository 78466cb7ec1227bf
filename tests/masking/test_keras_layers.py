"""What Keras does with layers of layers, and with masks."""

import os

import pytest
import torch
from padded import filled, randn

from kexue.masking import sequence_mask

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("KERAS_TORCH_DEVICE", "cpu")


@pytest.mark.verifies("masking.eq1", "masking.reuse")
def test_a_layer_of_two_dense_layers_is_the_formula_and_has_four_weights():
    import keras

    class Parent(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner, self.outer = keras.layers.Dense(5, "relu"), keras.layers.Dense(3, "tanh")

        def call(self, x):
            return self.outer(self.inner(x))

    keras.utils.set_random_seed(0)
    x, parent = randn(6, 4), Parent()
    out = parent(x)
    w1, b1, w2, b2 = map(torch.from_numpy, parent.get_weights())
    torch.testing.assert_close(out, torch.tanh(torch.relu(x @ w1 + b1) @ w2 + b2), atol=1e-6, rtol=0)
    assert len(parent.trainable_weights) == 4
    hidden = keras.layers.Dense(2)

    class Unseen(keras.layers.Layer):
        def call(self, x):
            return hidden(x)

    unseen = Unseen()
    right = unseen(x)
    assert len(hidden.trainable_weights) == 2
    assert not unseen.trainable_weights

    class Adopting(Unseen):
        """The article's `reuse`, for today's Keras, which closes a layer's list of weights once it is built."""

        def call(self, x):
            out = super().call(x)
            known = {id(weight) for weight in self.weights}
            self._tracker.unlock()
            for weight in hidden.weights:
                if id(weight) not in known:
                    self._track_variable(weight)
            self._tracker.lock()
            return out

    adopting = Adopting()
    for _ in range(2):  # once, however often it is called
        torch.testing.assert_close(adopting(x), right)
        assert [id(w) for w in adopting.trainable_weights] == [id(w) for w in hidden.trainable_weights]


@pytest.mark.verifies("masking.claim3")
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "SimpleRNN"])
def test_keras_reverses_with_the_mask_and_not_without(cell):
    from keras import layers

    both = layers.Bidirectional(getattr(layers, cell)(5, return_sequences=True))
    x = randn(3, 7, 4)
    mask = sequence_mask(torch.tensor([3, 5, 7]))
    padded = filled(x, mask, 2.0)
    with torch.no_grad():
        masked, bare = both(padded, mask=mask), both(padded)
        read, call = [], both.backward_layer.cell.call
        both.backward_layer.cell.call = lambda v, *args, **kw: read.append(v) or call(v, *args, **kw)
        assert torch.equal(both(padded, mask=mask), masked)
        assert torch.equal(torch.stack(read[-7:], 1), padded.flip(1))  # to the letter, whole rows
        both.backward_layer.cell.call = call
        alone = [both(x[i : i + 1, :n])[0] for i, n in enumerate((3, 5, 7))]
    for row, expected in enumerate(alone):
        torch.testing.assert_close(masked[row, : len(expected)], expected, atol=1e-6, rtol=0)
        assert torch.allclose(bare[row, : len(expected)], expected, atol=1e-2) == (row == 2)
    assert not masked[~mask].any()


@pytest.mark.verifies("masking.claim4")
def test_some_keras_layers_lose_a_mask_and_one_passes_it_on_unused():
    from keras import layers

    ids = torch.tensor([[3, 1, 2, 0, 0], [2, 3, 1, 1, 3]])
    embedding = layers.Embedding(4, 4, mask_zero=True)
    with torch.no_grad():
        x = embedding(ids)
        assert torch.equal(x._keras_mask, ids > 0)
        with pytest.warns(UserWarning, match="destroy the mask"):
            y = layers.Conv1D(3, 3, padding="same")(x)
        assert getattr(y, "_keras_mask", None) is None
        norm = layers.GroupNormalization(2)
        before = norm(x)
        assert torch.equal(before._keras_mask, ids > 0)
        weights = embedding.get_weights()[0]
        weights[0] = 9
        embedding.set_weights([weights])
        assert not torch.allclose(norm(embedding(ids))[0, :3], before[0, :3], atol=0.1)

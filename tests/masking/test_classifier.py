"""The classifier: which masks keep a text from knowing its batch."""

import itertools

import pytest
import torch
from refusing import refuses
from seeded import gen
from torch.nn.utils.rnn import pad_sequence

from kexue.masking import TextClassifier, predict


def classifier(**more):
    torch.manual_seed(0)
    return TextClassifier(30, 2, 8, 6, **more).eval()


TEXTS = [torch.randint(1, 30, (n,), generator=gen(n)) for n in (3, 9, 1, 3, 14)]


@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_with_masks_everywhere_a_text_does_not_know_its_batch(pooling):
    model, texts = classifier(pooling=pooling), 2 * TEXTS
    together = model(ids := pad_sequence(texts, batch_first=True), ids > 0)
    alone = torch.cat([model(text[None], text[None] > 0) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)
    for added, batch_size in itertools.product((0, 1, 40), (1, 3, 100)):
        found = predict(model, texts, added, batch_size)
        assert not found.requires_grad
        torch.testing.assert_close(found, alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_masks_for_the_pooling_leave_the_backward_network_to_the_padding(pooling):
    by_masks = {}
    for masks in ("none", "pooling", "everywhere"):
        model = classifier(pooling=pooling, masks=masks)
        by_masks[masks] = [predict(model, TEXTS, added) for added in (0, 40)]
    for masks in ("none", "pooling"):
        torch.testing.assert_close(by_masks[masks][0], by_masks["everywhere"][0], atol=1e-6, rtol=1e-5)
        assert not torch.allclose(by_masks[masks][1], by_masks["everywhere"][1], atol=1e-3)
    assert not torch.allclose(by_masks["none"][1], by_masks["pooling"][1], atol=1e-3)


def test_the_classifier_is_its_formula():
    model = classifier()
    text = TEXTS[1][None]
    h = model.rnn(model.embedding(text), text > 0)
    hidden, out = model.score[0], model.score[2]
    weight = torch.softmax(out(torch.tanh(hidden(h)))[..., 0], -1)
    torch.testing.assert_close(model(text, text > 0), model.out(torch.einsum("bt,bth->bh", weight, h)))


def test_dropout_is_for_training_and_at_both_places():
    model = classifier(dropout=0.5)
    ids = TEXTS[1][None]
    assert torch.equal(model(ids, ids > 0), model(ids, ids > 0))
    model.train()
    for place in ("rnn", "out"):
        seen = []
        hook = getattr(model, place).register_forward_pre_hook(lambda _, args: seen.append(args[0]))  # noqa: B023
        model(ids, ids > 0)
        hook.remove()
        assert 0.2 < (seen[0] == 0).double().mean() < 0.8


def test_padding_has_an_embedding_that_is_trained_without_masks():
    for masks in ("none", "everywhere"):
        model = classifier(masks=masks)
        assert model.embedding.weight[0].abs().max() > 0
        ids = torch.tensor([[3, 4, 0, 0]])
        model(ids, ids > 0).square().sum().backward()
        assert bool(model.embedding.weight.grad[0].any()) == (masks == "none")


M = torch.ones(2, 3, dtype=torch.bool)

test_bad_input_is_named = refuses([
    (lambda: classifier()(torch.tensor([[1, 30]]), M[:1, :2]), ValueError, "ids must be between 0 and 29, got 30"),
    (lambda: TextClassifier(9, masks="all"), ValueError, "masks must be one of .*, got 'all'"),
    (lambda: predict(classifier(), TEXTS, -1), ValueError, "added must be at least 0, got -1"),
    (lambda: classifier()(torch.ones(2).long(), M[0, :2]), ValueError, r"ids must have shape \(B, T\), got \(2,\)"),
    (lambda: TextClassifier(0), ValueError, "vocab_size must be at least 1, got 0"),
    (lambda: TextClassifier(9, pooling="sum"), ValueError, "pooling must be one of .*, got 'sum'"),
    (lambda: TextClassifier(9, dropout=1.0), ValueError, r"dropout must lie in \[0, 1\), got 1.0"),
    (lambda: predict(classifier(), [TEXTS[0], TEXTS[0][:0]]), ValueError, r"ids must be texts of at least one symbol, got lengths \[3, 0\]"),
    (lambda: predict(classifier(), TEXTS, 0, 0), ValueError, "batch_size must be at least 1, got 0"),
])  # fmt: skip

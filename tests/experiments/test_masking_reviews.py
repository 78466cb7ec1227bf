"""The classifiers of reviews."""

import pytest
import torch

from kexue import data, masking
from kexue.experiments import masking_reviews, recorded
from kexue.nn import randomness
from kexue.runs import Step


@pytest.mark.system
@pytest.mark.parametrize("masks", ["none", "pooling", "everywhere"])
def test_the_recorded_classifiers_have_the_recorded_accuracy(masks):
    run = recorded("masking_reviews")[f"attention-random-{masks}-seed1"]
    model, test = run.model(), data.reviews_parts()[2]
    vocabulary = masking_reviews.vocabulary(run.settings.at_least)
    ids = [vocabulary.ids(text[: run.config["max_length"]]) for text in test.text]
    for added in (0, 32):
        right = masking.predict(model, ids, added).argmax(-1) == test.label
        assert right.double().mean() == pytest.approx(run.summary[f"test_accuracy_added_{added}"], abs=0.002)


def test_reviews_of_similar_length_come_together():
    lengths = torch.randint(1, 40, (230,), generator=randomness.generator(0))
    config = masking_reviews.Config(batches="similar", batch_size=16)
    found = masking_reviews.batch_of(config, lengths, Step(5, 0))
    assert torch.equal(found, Step(5, 0).batch_of_similar(lengths, 16))

"""Pronunciations from both ends: what is measured, the second stage."""

import dataclasses

import numpy as np
import pytest
import torch

from kexue.decoding import TOKENS, Seq2Seq, beam_search, pad_ids, token_log_probs
from kexue.experiments import decoding_seq2seq
from kexue.experiments.tasks.sequence_pairs import Part, phonemes
from kexue.experiments.tasks.written import described, g2p_en, joint_scores, reranked
from kexue.runs import Run


@pytest.mark.slow
def test_what_is_measured_of_pronunciations_by_hand():
    ids = {name: i for i, name in enumerate(phonemes(), start=TOKENS)}
    word = tuple(ids[p] for p in ["D", "IH0", "K", "OW1", "D", "IH0", "NG", "Z"])
    stress = (word[0], ids["IH1"], *word[2:])
    late = (*word[:-1], ids["S"])
    part = Part([[3]] * 4, [[word], [word], [word, late], [word[:3]]])
    found = described("x", [word, stress, late, word[:2]], part)
    assert found["x_wer"] == 2 / 4
    assert found["x_wer_plain"] == 1 / 4
    assert found["x_per"] == 2 / (8 + 8 + 8 + 3)
    assert found["x_per_plain"] == 1 / (8 + 8 + 8 + 3)
    # Of the three long words, one has a wrong second phoneme; the closest reference counts.
    assert found["x_first4"] == 11 / 12
    assert found["x_last4"] == 1
    # Eight phonemes: two, one, two, one and two in the fifths; three: one in the first, third and last.
    assert [found[f"x_fifth{i}"] for i in range(5)] == [6 / 7, 1, 1, 1, 6 / 7]
    assert found["x_wer_length3"] == 1
    assert found["x_wer_length8"] == 1 / 3
    short = described("x", [word[1:]], Part([[3]], [[word]]))
    assert short["x_first4"] == 0
    assert short["x_last4"] == 1


def test_reranking_takes_what_both_directions_like_best():
    torch.manual_seed(0)
    models = [Seq2Seq(8, 7, 8, 2, 1, 1, direction=d).eval().requires_grad_(False) for d in ("l2r", "r2l")]
    part = Part([[3, 4], [5, 6, 7]], [[(3,)], [(4,)]])
    lists = [beam_search(model, part.src, 6, 5) for model in models]
    scores = joint_scores(lists, models, part)
    for i, best in enumerate(reranked([a + b for a, b in zip(*lists, strict=True)], scores)):
        candidates = {h.tokens for one in lists for h in one[i] if h.tokens}
        assert len(candidates) > 3
        src = pad_ids([part.source[i]])
        score = {
            c: sum(float(token_log_probs(m, src, pad_ids([c]))[0].sum()) for m in models) for c in candidates
        }
        assert best == max(score, key=score.get)
        assert scores[i] == pytest.approx(score, abs=1e-5)
        shorter = reranked([lists[0][i][:2]], [scores[i]])[0]
        assert shorter == max((h.tokens for h in lists[0][i][:2] if h.tokens), key=score.get)


@pytest.mark.system
def test_the_other_model_needs_no_download(monkeypatch):
    import nltk

    def refuse(*args, **options):
        raise AssertionError("nothing may be downloaded")

    monkeypatch.setattr(nltk, "download", refuse)
    before = list(nltk.data.path)
    model = g2p_en()
    assert model.predict("cat") == ["K", "AE1", "T"]
    assert nltk.data.path == before


@pytest.mark.system
def test_the_second_stage_begins_where_it_says_and_resumes(tmp_path):
    script = decoding_seq2seq
    small = {"examples": 300, "searched": 20, "width": 16, "heads": 2, "batch_size": 32, "warmup": 2}
    config = script.Config(steps=12, every=9, second_stage=8, **small)  # a checkpoint within the second stage
    plain = dataclasses.replace(config, second_stage=0)
    one = script.run(config, tmp_path / "one")
    two = script.run(plain, tmp_path / "two")
    losses = [Run(tmp_path / name).metrics["loss"] for name in ("one", "two")]
    steps = Run(tmp_path / "one").metrics["step"]
    assert (steps <= 8).sum() == 8
    assert np.array_equal(losses[0][steps <= 8], losses[1][steps <= 8])
    assert not np.array_equal(losses[0][steps > 8], losses[1][steps > 8])
    assert one["loss"] != two["loss"]
    assert not (tmp_path / "one" / "pseudo.npy").exists()
    script.run(config, tmp_path / "stopped", stop_after=10)
    again = script.run(config, tmp_path / "stopped")
    assert again == one

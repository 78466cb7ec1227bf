"""Pretraining, reading and segmentation: their questions, and what is measured."""

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from seeded import gen

from kexue import data, reading
from kexue.experiments import reading_pretraining, reading_segmentation
from kexue.experiments.tasks import answers, questions
from kexue.nn import randomness
from kexue.reading import BLANK, ClozeQuestion
from kexue.runs import Run

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("head", ["mlm", "seq2seq"])
def test_the_readers_have_the_best_settings_tried_and_a_rate_between_others(head):
    trials = [Run(path.parent) for path in ROOT.glob(f"runs/reading_tuning/{head}-second*/run.json")]
    best = min(trials, key=lambda run: run.summary["valid_known_nats"])
    of_trials = {"seed": 0, "steps": 500, "every": 500, "keep_weights": False}
    for seed in (1, 2, 3):
        assert {**Run(ROOT / f"runs/reading/{head}-seed{seed}").config, **of_trials} == best.config
    alike = [
        run for run in trials if {**run.config, "learning_rate": 0} == {**best.config, "learning_rate": 0}
    ]
    rates = [run.config["learning_rate"] for run in alike]
    assert min(rates) < best.config["learning_rate"] < max(rates)


@pytest.mark.slow  # reads the newspaper
def test_words_that_recur_are_masked_whole_and_more_often():
    script = reading_pretraining
    text = script.stream(1)
    config = script.Config(mask_rate=0.0, recurring_rate=1.0)
    begins = torch.tensor([0, 500, 3000])
    where = begins[:, None] + torch.arange(60)
    ids, masked = script.masked_windows(text, begins, torch.full((3, 60), 0.5), config)
    assert torch.equal(ids, text.ids[where])
    for row, places in enumerate(where.tolist()):
        words = {}
        for place in places:
            words.setdefault(int(text.place[place]), []).append(place)
        spelt = {word: tuple(text.ids[spot].tolist()) for word, spot in words.items()}
        for word, spot in words.items():
            chosen = masked[row, torch.tensor(spot) - begins[row]].tolist()
            assert len(set(chosen)) == 1  # all of a word or nothing
            same = [other for other in words if other != word and spelt[other] == spelt[word]]
            if word not in (min(words), max(words)):  # words at the edges may be cut
                if len(spot) == 1:
                    assert not chosen[0]
                elif same and not {min(words), max(words)} & set(same):
                    assert chosen[0]
    assert masked.any()
    nothing = script.Config(mask_rate=0.0, recurring_rate=0.0)
    assert not script.masked_windows(text, begins, torch.full((3, 60), 0.5), nothing)[1].any()


@pytest.mark.slow  # reads the newspaper
@pytest.mark.parametrize(("persons", "valid"), [(1, 1), (2, 1), (4, 1), (2, 2), (4, 4), (4, 2)])
def test_names_are_new_and_those_in_the_place_are_right(persons, valid):
    drawn = [questions.name_question(persons, valid, randomness.generator(0, i)) for i in range(20)]
    for question, right in drawn:
        there = [one.split("在") for one in question.passage.removesuffix("。").split("。")]
        assert sorted(name for name, _ in there) == sorted(question.entities)
        assert {place for _, place in there} <= set(questions.PLACES)
        assert len({place for _, place in there}) == persons - valid + 1
        place = question.question.removeprefix(f"{BLANK}在").removesuffix("。")
        assert {name for name, where in there if where == place} == set(right)
        assert len(right) == valid
        assert question.answer in right
        characters = "".join(question.entities)
        assert len(set(characters)) == len(characters) == 3 * persons
        known = reading_pretraining.vocabulary()
        assert known.unknown not in known.encode(question.passage + question.question)[0]
    assert questions.name_question(persons, valid, randomness.generator(0, 3)) == drawn[3]
    assert len({question.answer for question, _ in drawn}) > 15
    if persons > 1:  # the right one stands anywhere
        assert len({q.passage.index(q.answer) for q, _ in drawn}) == persons


def test_what_is_shown_for_mask_predict():
    targets = torch.tensor([[9, 8, 7, 3, 0]]).repeat(400, 1)
    found = questions.shown(400, targets, 3, randomness.generator(0))
    none = ~found.any(1)
    assert 0.4 < none.float().mean() < 0.6
    assert found[~none, 3].all()  # the end
    assert not found[:, 4].any()
    counts = found[~none, :3].sum(1)
    assert set(counts.tolist()) == {0, 1, 2}  # at least one is hidden


def test_what_is_hidden_and_which_part_is_read():
    question = ClozeQuestion("甲" * 500, "乙＿" * 50, "甲", "nr", ())
    some = questions.hidden(question, 0.2, randomness.generator(0))
    assert some.passage.replace(questions.MASKED, "甲") == question.passage
    assert some.question.replace(questions.MASKED, "乙") == question.question
    assert 60 < some.passage.count(questions.MASKED) < 140
    for place in (0, 100, 990):
        passage = "甲" * place + "乙丙" + "甲" * (998 - place)
        for seed in range(5):
            asked = data.PassageQuestion(passage, "？", ("乙丙",))
            part = questions.near_answer(asked, randomness.generator(seed))
            assert part.answer in part.passage
            assert part.passage in passage
            assert len(part.passage) == questions.NEAR


def test_what_counts_as_a_name_a_rival_and_a_mixture():
    names = ("王小明", "李大华", "北京", "一二三四五六七八九")
    question = ClozeQuestion("王小明在北大。王小军。", "李大华见＿。", "王小明", "nr", names)
    assert questions.candidates(question) == ["王小明", "李大华", "北京"]
    assert questions.rivals(question) == ["王小明", "北京"]
    assert answers.chosen_name(question, torch.tensor([1.0, 3.0, 2.0]), ["王小明", "北京"]) == "北京"
    for answer, mixed in {
        "王大明": True,
        "北小": True,
        "王小": False,  # stands in the passage
        "北大": False,  # and so does this
        "": False,
        "王小明明": False,  # no name is that long
        "王王明": False,  # 王 is in second place nowhere
    }.items():
        assert answers.mixes(answer, question) == mixed, answer


@pytest.fixture(scope="module")
def readers():
    """Both heads on a tiny encoder with random weights."""
    letters = reading.Characters(["王小明李大华北京在见。"])
    torch.manual_seed(0)
    return {
        head: kind(
            reading.MaskedLM(len(letters), 16, 2, 1, vocabulary=letters).requires_grad_(False), 8
        ).eval()
        for head, kind in (("mlm", reading.MLMReader), ("seq2seq", reading.Seq2SeqReader))
    }


QUESTIONS = [
    ClozeQuestion(passage, question, answer, "nr", names)
    for passage, question, answer, names in (
        ("王小明在北京。李大华在北京。", "＿见李大华。", "王小明", ("北京", "王小明", "李大华")),
        ("李大华在北京。", "＿见王小明。", "李大华", ("北京", "李大华")),
        ("北京。", "在＿。", "北京", ("北京",)),
    )
]


@pytest.mark.parametrize("head", ["mlm", "seq2seq"])
def test_every_column_of_what_is_measured(head, readers):
    reader = readers[head]
    columns = answers.measured(reader, QUESTIONS)
    assert {len(values) for values in columns.values()} == {3}
    for i, q in enumerate(QUESTIONS):
        got = {name: values[i] for name, values in columns.items()}
        log_p = lambda asked, answer, q=q: float(reader.log_prob([q.passage], [asked], [answer]))  # noqa: E731
        free, span = (reader.answer([q.passage], [q.question], flag)[0].text for flag in (False, True))
        spans = {q.passage[i:j] for i in range(len(q.passage)) for j in range(i + 1, i + 9)}
        if head == "mlm":
            best = max(sorted(spans), key=lambda one: log_p(q.question, one))
        else:
            best = reader.answer([q.passage], [q.question], True, beam_size=4)[0].text
        for name, said in (("free", free), ("span", span), ("best", best)):
            assert got[name] == reading.exact_match(said, q.answer), name
            assert got[f"{name}_f1"] == reading.answer_f1(said, q.answer)
        rivals = questions.rivals(q)
        pools = {"name": (q.question, q.entities), "rival": (q.question, rivals), "blind": (BLANK, rivals)}
        for name, (asked, pool) in pools.items():
            liked = max(pool, key=lambda one, asked=asked: log_p(asked, one))
            assert got[name] == (liked == q.answer), name
        assert got["named"] == (free in q.entities)
        assert got["mixed"] == answers.mixes(free, q)
        assert got["outside"] == (free not in q.passage)
        assert got["nats"] == pytest.approx(-log_p(q.question, q.answer), rel=1e-4)
        each, _ = reader.token_log_probs([q.passage], [q.question], [q.answer])
        assert got["nats0"] == pytest.approx(-float(each[0, 0]), rel=1e-4)
        scores = sorted((log_p(q.question, one) for one in q.entities), reverse=True)
        margin = scores[0] - scores[1] if len(scores) > 1 else math.nan
        assert got["margin"] == pytest.approx(margin, abs=1e-4, nan_ok=True)
        wrong = [float(a != b) for a, b in zip([*q.answer, ""], [*free, "", *"#" * 9], strict=False)]
        expected = [*wrong, *[math.nan] * answers.COMPARED][: answers.COMPARED]
        places = [got[f"wrong{place}"] for place in range(answers.COMPARED)]
        assert places == pytest.approx(expected, nan_ok=True)
        p = reader.forced_log_probs([q.passage], [q.question], [q.answer])[0][0, 0].exp().tolist()
        assert got["entropy"] == pytest.approx(-sum(v * math.log2(v) for v in p), rel=1e-4)


def test_columns_are_written_and_read(tmp_path):
    answers.write_columns({"a": [1.0, 0.0], "b": [math.nan, 1.23456]}, tmp_path / "questions.csv")
    assert (tmp_path / "questions.csv").read_text() == "a,b\n1,\n0,1.235\n"
    columns = Run(tmp_path).columns("questions.csv")
    assert columns["a"].tolist() == [1, 0]
    assert np.isnan(columns["b"][0])


def test_what_follows_a_first_character_that_is_put_in(readers, monkeypatch):
    reader = readers["seq2seq"]
    asked = [*QUESTIONS, QUESTIONS[0]]
    known = reader.vocabulary.encode
    # 王 goes on to a name, 李 to what stands nowhere, 北 to a part of the passage that is no name; whatever else
    # to the rest of the first question's answer. By itself, the reader begins right in the first two questions.
    written_out = {c: f"{c}小明" for c in "小明在京大华"} | {"王": "王小明", "李": "李小京", "北": "北京。"}
    own = ["王小", "李", "明", "北京"]

    def next_log_probs(prefix, written):
        found = torch.full((len(written), written.shape[1] + 1, len(reader.vocabulary)), -30.0)
        for row, ids in enumerate(written.tolist()):
            text = reader.vocabulary.decode(ids)
            word = written_out[text[0]]
            to_come = word[len(text) :]
            found[row, -1, known(to_come[0])[0][0] if to_come else reader.vocabulary.end] = 0.0
        return found

    likes = {"北京": 0.0, "王小明": -1.0, "李大华": -2.0}
    by_name = lambda reader, several: [  # noqa: E731
        torch.tensor([likes[name] for name in questions.candidates(q)]) for q in several
    ]
    monkeypatch.setattr(reader, "next_log_probs", next_log_probs)
    monkeypatch.setattr(reader, "answer", lambda *_, **__: [reading.Answer(text, 1.0) for text in own])
    monkeypatch.setattr(answers, "by_name", by_name)
    found = answers.after_first(reader, asked, gen())
    as_own = {"later": pytest.approx(1 / 3), "wrong1": 0.5, "wrong2": 0.5, "wrong3": 0}
    otherwise = {"later": pytest.approx(2 / 3), "wrong1": 1, "wrong2": 1, "wrong3": 0}
    assert found == {
        **{f"first_true_{k}": v for k, v in (as_own | {"named": 0.5, "inside": 0.5}).items()},
        **{f"first_other_{k}": v for k, v in (otherwise | {"named": 0, "inside": 1}).items()},
        **{f"first_stray_{k}": v for k, v in (as_own | {"named": 0, "inside": 0}).items()},
        "own_wrong_stray": 0.5,  # 明 begins no name; 北京 does, though another than the answer
        "corrupted": 2,
    }


def test_first_characters_are_of_another_name_and_of_none(readers):
    reader = readers["seq2seq"]
    draw = lambda passage, names, likes: [  # noqa: E731
        answers.first_characters(
            reader,
            ClozeQuestion(passage, "＿。", "王小明", "nr", names),
            torch.tensor(likes),
            gen(seed),
        )
        for seed in range(40)
    ]
    names = ("王小明", "王大华", "京", "李大华")
    # The true name and another with its first character are liked best; 饕 is not in the vocabulary.
    drawn = draw("王小明见王大华。京，李大华在饕。", names, [0.0, -1.0, -3.0, -2.0])
    assert {(one["true"], one["other"]) for one in drawn} == {("王", "李")}
    assert {one["stray"] for one in drawn} == {"小", "明", "见", "大", "华", "在"}
    assert draw("王小明见王大华。", names[:2], [0.0, -1.0]) == [{}] * 40  # no other beginning
    assert draw("王。京，李", names, [0.0, -1.0, -3.0, -2.0]) == [{}] * 40  # no stray one


@pytest.mark.parametrize("head", ["mlm", "seq2seq"])
def test_what_is_measured_of_names(head, readers):
    reader = readers[head]
    asked = [(q, [name for name in q.entities if len(name) == 3]) for q in QUESTIONS[:2]]
    found = answers.measured_names(reader, asked)
    log_p = [
        reader.log_prob([q.passage] * len(valid), [q.question] * len(valid), valid) for q, valid in asked
    ]
    assert found["nats"] == pytest.approx(-np.mean([float(one.mean()) for one in log_p]), rel=1e-4)
    assert found["mass"] == pytest.approx(np.mean([float(one.exp().sum()) for one in log_p]), rel=1e-4)
    said = [reader.answer([q.passage], [q.question], False)[0].text for q, _ in asked]
    assert found["right"] == np.mean([one in valid for one, (_, valid) in zip(said, asked, strict=True)])
    assert found["mixed"] == np.mean([answers.mixes(one, q) for one, (q, _) in zip(said, asked, strict=True)])
    assert found["right"] + found["mixed"] + found["else"] == pytest.approx(1)


@pytest.mark.slow  # reads the newspaper
def test_what_is_measured_of_segmentations_by_hand():
    script = reading_segmentation
    assert script.impossible([0, 2, 3, 0, 1, 2]) == 0
    assert script.impossible([0, 3, 1, 2, 2, 0, 0]) == 4
    assert reading.word_places(("中国", "人", "中国")) == {(0, 2): "中国", (2, 3): "人", (3, 5): "中国"}
    # The likeliest tags that are a segmentation, of all of them.
    emissions = torch.randn(5, 4, 4, generator=randomness.generator(0))
    found = script.only_possible().decode(emissions, torch.ones(5, 4, dtype=torch.bool))
    for row, tags in zip(emissions, found.tolist(), strict=True):
        score = lambda several, row=row: float(sum(row[i, tag] for i, tag in enumerate(several)))  # noqa: E731
        some = [one for one in product(range(4), repeat=4) if not script.impossible(list(one))]
        assert tuple(tags) == max(some, key=score)
    for part in range(3):
        assert all(0 < sum(map(len, one)) <= script.LONGEST for one in script.pieces(part)[:200])
    ids, tags = script.encoded([("中国", "人"), ("我",)])
    assert ids.shape == tags.shape == (2, 3)
    assert tags.tolist() == [[0, 2, 3], [3, 0, 0]]
    assert (ids[1, 1:] == 0).all()


@pytest.mark.slow
@pytest.mark.unchecked
def test_words_not_seen_in_training_count_in_their_places(monkeypatch):
    script = reading_segmentation
    monkeypatch.setattr(script, "pieces", lambda part: [("甲",)] if part == 0 else [("甲", "乙甲", "丙")])

    class Model(torch.nn.Module):
        def __init__(self, tags):
            super().__init__()
            self.out, self.tags = torch.nn.Linear(1, 1), torch.tensor([tags])

        def decode(self, ids, possible):
            return self.tags

    # 甲乙 | 甲 | 丙: 丙 is found, 乙甲 is not; then a found 乙甲.
    for tags, recall in (([0, 2, 3, 3], 0.5), ([3, 0, 2, 3], 1.0)):
        found = script.scores(Model(tags), 1)
        assert found["recall_new"] == recall
        assert found["share_new"] == pytest.approx(2 / 3)

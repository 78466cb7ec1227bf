"""Characters as tokens, the encoder beside a Transformer of single vectors, and BERT of Hugging Face's."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from literal import literal_attention
from readers import CLS, HEADS, MASK, PAD, SEP, UNK, Example, encoder_of
from seeded import F64, gen
from torch.nn.functional import gelu, layer_norm, pad

from kexue import reading
from kexue.reading import BLANK, Characters


def test_characters():
    one = Characters(["abba", f"ab{BLANK}c"], at_least=2)
    assert one.symbols == ("", "\N{REPLACEMENT CHARACTER}", "[CLS]", "[SEP]", "[MASK]", BLANK, "a", "b")
    assert len(one) == 8
    assert one.encode(f"bac{BLANK}") == ([7, 6, UNK, one.blank], [(0, 1), (1, 2), (2, 3), (3, 4)])
    assert one.decode([6, 1, 0, 5, 7, 3]) == f"a\N{REPLACEMENT CHARACTER}{BLANK}b[SEP]"
    assert len(Characters(["ba"])) == 8  # the blank is there in any case
    assert isinstance(one, reading.Tokens)


@pytest.mark.slow
@given(st.text("abcXY" + BLANK, max_size=12))
def test_characters_come_back_but_for_unknown_ones(text):
    one = Characters(["abc"])
    ids, offsets = one.encode(text)
    assert one.decode(ids) == "".join(c if c in "abc" + BLANK else "\N{REPLACEMENT CHARACTER}" for c in text)
    assert [text[a:b] for a, b in offsets] == list(text)
    assert not {PAD, CLS, SEP, MASK} & set(ids)


def literal_encoder(encoder, ids, mask):
    """One vector at a time."""
    h = encoder.embedding.weight[torch.tensor(ids)] * math.sqrt(encoder.hidden_size)
    for block in encoder.blocks:
        x, new = block.first_norm(h), []
        for i in range(len(ids)):
            seen = [j for j in range(len(ids)) if mask[i][j]]
            middle = h[i] + literal_attention(block.attention, x[i], x[seen], (i, seen))
            new.append(middle + block.leave(gelu(block.enter(block.second_norm(middle)))))
        h = torch.stack(new)
    return torch.stack([encoder.embedding.weight @ layer_norm(one, one.shape) + encoder.bias for one in h])


@torch.no_grad()
def test_the_encoder_is_a_transformer_with_rotary_positions():
    encoder, ids = encoder_of(), [2, 6, 4, 6, 9, 3]
    mask = torch.rand(6, 6, generator=gen()) < 0.6
    mask |= torch.eye(6, dtype=torch.bool)
    out = encoder(torch.tensor([ids]), mask[None])
    torch.testing.assert_close(out[0], literal_encoder(encoder, ids, mask.tolist()), atol=1e-11, rtol=0)
    kept = encoder(torch.tensor([ids]), mask[None], slice(2, 4))
    torch.testing.assert_close(kept, out[:, 2:4], atol=1e-13, rtol=0)
    everything = literal_encoder(encoder, ids, [[True] * 6] * 6)
    padded = encoder(torch.tensor([[*ids, PAD, PAD]]), keep=slice(6))  # without a mask: not at padding
    torch.testing.assert_close(padded[0], everything, atol=1e-11, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("cut", [1, 3, 5])
def test_the_encoder_goes_on_from_keys_and_values(cut):
    encoder, ids = encoder_of(), torch.tensor([[2, 6, 4, 6, 9, 3], [2, 7, 7, 5, 1, 3]])
    mask = torch.ones(6, 6, dtype=torch.bool).tril().expand(2, -1, -1)
    whole, kept = encoder.states(ids, mask)
    first, past = encoder.states(ids[:, :cut], mask[:, :cut, :cut])
    second, both = encoder.states(ids[:, cut:], mask[:, cut:], past)
    torch.testing.assert_close(torch.cat((first, second), 1), whole, atol=1e-12, rtol=0)
    torch.testing.assert_close(both, kept, atol=1e-12, rtol=0)


# --- BERT of Hugging Face's --------------------------------------------------------------------------

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"北京上海在谁。", "ab", "##cd", "x", "New"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A folder with a tiny BERT that has more outputs than its tokenizer has words."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS), "utf-8")
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS) + 3,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=0.3,
    )
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    return folder


def on_bert(head, bert, longest=3):
    return getattr(reading, head).from_pretrained(bert, longest).to(F64).eval()


HF_PASSAGES = ["北京在上海。", "ABcd x", "海 [SEP] 京北東"]
HF_QUESTIONS = ["谁在京", "x", "上海北京"]
HF_ANSWERS = ["上海", "abcd", "京"]


@pytest.mark.slow  # imports transformers
def test_word_pieces_go_to_text_and_back(bert):
    vocabulary = on_bert("MLMReader", bert).vocabulary
    assert isinstance(vocabulary, reading.Tokens)
    special = vocabulary.pad, vocabulary.unknown, vocabulary.start, vocabulary.end, vocabulary.mask
    assert special == tuple(range(5))
    assert len(vocabulary) == 16
    ids, offsets = vocabulary.encode("北 京ABcd x東")
    assert ids == [5, 6, 12, 13, 14, 1]
    assert offsets == [(0, 1), (2, 3), (3, 5), (5, 7), (8, 9), (9, 10)]
    assert vocabulary.decode([12, 13, 14, 5, 6, 12]) == "abcd x北京ab"
    assert vocabulary.decode([15, 15, 12]) == "New New ab"
    assert vocabulary.decode([]) == ""
    ids, offsets = vocabulary.encode("[SEP]北[PAD][MASK][CLS]")  # text, whatever it looks like
    assert set(ids) == {1, 5}
    assert "".join("[SEP]北[PAD][MASK][CLS]"[a:b] for a, b in offsets) == "[SEP]北[PAD][MASK][CLS]"


@pytest.mark.slow  # imports transformers
@pytest.mark.parametrize("head", HEADS)
def test_a_pretrained_bert_trains_and_answers(head, bert):
    reader = on_bert(head, bert)
    assert reader.max_answer_length == 3
    answers = reader.answer(HF_PASSAGES, HF_QUESTIONS)
    assert all(one.text in passage for one, passage in zip(answers, HF_PASSAGES, strict=True))
    assert all(0 <= one.score <= 1 for one in reader.answer(HF_PASSAGES, HF_QUESTIONS, False))
    batch = list(map(Example, HF_PASSAGES, HF_QUESTIONS, HF_ANSWERS))
    optimizer = torch.optim.Adam(reader.parameters(), 0.01)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        losses.append(reader.loss(batch))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1].item() < 0.5 * losses[0].item()
    long = reader.answer(["北京在上海。" * 20], ["谁在"])[0]  # in windows
    assert long.text in "北京在上海。" * 20


@pytest.mark.slow  # imports transformers
@torch.no_grad()
@pytest.mark.parametrize("head", HEADS)
def test_a_pretrained_bert_ignores_padding_and_batch_mates(head, bert):
    reader = on_bert(head, bert)
    together = reader.log_prob(HF_PASSAGES, HF_QUESTIONS, HF_ANSWERS)
    rows = zip(HF_PASSAGES, HF_QUESTIONS, HF_ANSWERS, strict=True)
    alone = torch.cat([reader.log_prob([p], [q], [a]) for p, q, a in rows])
    torch.testing.assert_close(together, alone, atol=1e-10, rtol=0)
    candidates = reader.candidate_log_probs(HF_PASSAGES, HF_QUESTIONS, [[one, "京"] for one in HF_ANSWERS])
    torch.testing.assert_close(torch.stack(candidates)[:, 0], together, atol=1e-10, rtol=0)
    ids = torch.tensor([[2, 5, 6, 4, 8, 3]])
    plain = reader.encoder(ids)
    assert plain.shape == (1, 6, 16)
    left, right = reader.encoder(pad(ids, (3, 0))), reader.encoder(pad(ids, (0, 3)))
    torch.testing.assert_close(left[:, 3:], plain, atol=1e-10, rtol=0)
    torch.testing.assert_close(right[:, :6], plain, atol=1e-10, rtol=0)
    assert left.isfinite().all()
    torch.testing.assert_close(reader.encoder(ids, keep=slice(2, 4)), plain[:, 2:4], atol=1e-12, rtol=0)
    own = reader.encoder.bert(ids).logits[..., :16]  # without masks or positions of ours
    torch.testing.assert_close(plain, own, atol=1e-10, rtol=0)


@pytest.mark.slow  # imports transformers
@torch.no_grad()
@pytest.mark.verifies("reading.eq1")
def test_a_pretrained_bert_sees_no_later_token(bert):
    reader = on_bert("Seq2SeqReader", bert)
    prefix = reader.prefix([[5, 6, 7], [8]], [[8], [6, 5]])
    written = torch.tensor([[5, 6, 7, 8], [8, 5, 12, 14]])
    before = reader.next_log_probs(prefix, written)
    for m in range(4):
        moved = written.clone()
        moved[:, m] = 10
        change = (reader.next_log_probs(prefix, moved) - before).abs().amax(-1)
        assert (change[:, : m + 1] < 1e-12).all()
        assert (change[:, m + 1 :] > 1e-6).all()
    with pytest.raises(ValueError, match="cache must be False for a HuggingFaceEncoder, got True"):
        reader.answer(["北京"], ["谁"], cache=True)


@pytest.mark.slow  # imports transformers
@pytest.mark.unchecked
def test_a_pretrained_name_that_is_not_there(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(OSError, match=r"nothing-there"):
        reading.MLMReader.from_pretrained(tmp_path / "nothing-there")


# --- Bad input ---------------------------------------------------------------------------------------

"""Reading comprehension that fills in all of an answer at once, and what independence costs.

Source: 苏剑林, 《“非自回归”也不差：基于MLM的阅读理解问答》, https://kexue.fm/archives/7148, and its
autoregressive counterpart, https://kexue.fm/archives/7115. The ids in brackets (reading.eq2) are rows of the
ledger.

A reader is a head on an encoder, a masked language model that is called as `encoder(ids, mask)` and carries
its vocabulary. `MLMReader` puts masks beside question and passage and fills them all at once;
`Seq2SeqReader` writes the answer token by token on the same encoder. Both give log p(answer | passage,
question), the end mark included, and decode it freely or within the passage.

Bad input raises `TypeError` for a wrong type and `ValueError` for a value outside the domain; the message
names the argument and the value.
"""

from kexue.reading.cloze import ENTITIES, ClozeDataset, ClozeQuestion, most_frequent_entity
from kexue.reading.crf import LinearChainCRF
from kexue.reading.encoder import BLANK, Characters, Encoder, HuggingFaceEncoder, MaskedLM, Tokens
from kexue.reading.evaluation import answer_f1, exact_match, normalized, vote
from kexue.reading.independence import product_of_marginals, total_correlation
from kexue.reading.mlm import MLMReader
from kexue.reading.reader import Answer, Question
from kexue.reading.segmentation import (
    WORD_TAGS,
    segmentation_counts,
    tags_of_words,
    word_places,
    words_of_tags,
)
from kexue.reading.seq2seq import Seq2SeqReader

__all__ = [
    "BLANK",
    "ENTITIES",
    "WORD_TAGS",
    "Answer",
    "Characters",
    "ClozeDataset",
    "ClozeQuestion",
    "Encoder",
    "HuggingFaceEncoder",
    "LinearChainCRF",
    "MLMReader",
    "MaskedLM",
    "Question",
    "Seq2SeqReader",
    "Tokens",
    "answer_f1",
    "exact_match",
    "most_frequent_entity",
    "normalized",
    "product_of_marginals",
    "segmentation_counts",
    "tags_of_words",
    "total_correlation",
    "vote",
    "word_places",
    "words_of_tags",
]

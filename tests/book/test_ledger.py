"""The ledger's gates, verdicts, and pages."""

import dataclasses
import json
import re
from pathlib import Path

import ledger_page
import nbformat
import numpy as np
import pytest
import torch

from kexue.book import ledger, pages
from kexue.book.ledger import Row, VerdictError, verdict
from kexue.runs.statistics import Interval

ROOT = Path(__file__).parents[2]
SLUGS = pages.slugs(ROOT)


# --- Gates -------------------------------------------------------------------------------------


def test_every_chapter_of_the_book_has_a_ledger():
    chapters = {path.stem for path in (ROOT / "chapters").glob("*.py")}
    assert chapters == set(SLUGS) == {path.stem for path in (ROOT / "ledger").glob("*.toml")} - {"retired"}


def test_every_row_has_evidence_and_all_evidence_a_row():
    evidence = ledger_page.marked_tests()
    assert ledger_page.gaps(pages.join(evidence, ROOT), evidence) == []


def test_ids_are_unique_over_the_book():
    ids = [row.id for slug in SLUGS for row in ledger.load(slug).rows]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("slug", SLUGS)
def test_labelled_equations_and_rows_match(slug):
    text = (ROOT / "chapters" / f"{slug}.py").read_text("utf-8")
    labels = re.findall(r"^# \$\$ \(([\w-]+)\)", text, re.M)
    assert len(labels) == len(set(labels))
    rows = {row.id: row for row in ledger.load(slug).rows}
    labelled = {label.replace("-", ".", 1) for label in labels}
    assert labelled <= set(rows)
    # Numbered rows are, unless they say why not; others, of formulas that the article does not number, may be.
    numbered = {i for i in rows if re.search(r"\.(eq|alg)\d+$", i)}
    assert {i for i in numbered if rows[i].shown} == numbered & labelled


def test_the_evidence_is_up_to_date():
    before = ledger_page.noted_before(ROOT / "ledger" / "evidence.json")
    rows = [row.id for slug in SLUGS for row in ledger.load(slug).rows]
    assert before == ledger_page.noted(ledger_page.marked_tests(), rows), "make ledger, and commit"


ERRATA = [row.id for slug in SLUGS for row in ledger.load(slug).rows if row.code]


@pytest.mark.parametrize("row_id", ERRATA)
def test_the_code_of_an_erratum_runs_and_asserts(row_id):
    code = ledger.row(row_id).code
    exec(code, {})
    broken = re.sub(
        r"^assert .*$", lambda found: f"assert not ({found[0][7:].partition('  #')[0]})", code, flags=re.M
    )
    with pytest.raises(AssertionError):
        exec(broken, {})


# --- Gaps are noticed --------------------------------------------------------------------------


@pytest.fixture
def small_book(tmp_path):
    """A root with one article of two rows; `build(rows, verdicts, tests)` writes it."""

    def build(rows: str, verdicts: dict[str, str], tests: str = "") -> Path:
        for folder in ("ledger", "chapters", "pages", "tests"):
            (tmp_path / folder).mkdir(exist_ok=True)
        head = "title='T'\ntitle_zh='题'\ngloss='g'\ndate='2019'\nurl='u'\n"
        head += "prerequisites=[]\ndata=[]\nedition=1\n"
        (tmp_path / "ledger" / "a.toml").write_text(head + rows, "utf-8")
        (tmp_path / "_toc.yml").write_text("      - file: chapters/a\n      - file: ledger\n")
        ledger.load.cache_clear()
        written = ledger.load("a", tmp_path / "ledger").rows if verdicts else ()
        boxes = {
            row.id: ledger.box(row, verdicts[row.id], {"error": 0.5}) for row in written if row.id in verdicts
        }
        cell = nbformat.v4.new_code_cell(execution_count=1)
        cell.outputs = [
            nbformat.v4.new_output(
                "display_data",
                data={
                    ledger.MIME_TYPE: {"id": i, "verdict": v, "measured": [["error", 0.5]]},
                    "text/html": boxes.get(i, ""),
                },
            )
            for i, v in verdicts.items()
        ]
        nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# T\n\n## A section"), cell])
        nbformat.write(nb, tmp_path / "chapters" / "a.ipynb")
        (tmp_path / "tests" / "test_a.py").write_text(tests)
        ledger.load.cache_clear()
        return tmp_path

    yield build
    ledger.load.cache_clear()


def toml_row(name: str, sort: str = "equation", expected: str = "holds", why: str = "", **more: str) -> str:
    given = {
        "id": f"a.{name}",
        "sort": sort,
        "place": "eq. (1)",
        "statement": "$a|b$",
        "expected": expected,
        "why": why,
    }
    if sort == "equation":
        given["kind"] = "identity"
    if expected in ("restricted", "refuted", "unreached"):
        given |= {"grave": "a slip", "code": "assert 1 > 0"}
    return "[[row]]\n" + "".join(f"{key}='{value}'\n" for key, value in (given | more).items())


TEST = "import pytest\n\n\n@pytest.mark.verifies('a.{name}')\ndef test_{name}():\n    assert 1 + 1 == 2\n"
FAILS = "\n\n@pytest.mark.fails('a.{name}')\ndef test_{name}_fails():\n    assert 1 + 1 != 3\n"


def found_gaps(root: Path) -> list[str]:
    evidence = ledger_page.marked_tests(root)
    return ledger_page.gaps(pages.join(evidence, root), evidence, root)


def page_of(root: Path, name: str = "ledger") -> str:
    """The page of a book, as it is filled when it is built."""
    return pages.fill(f"Before.\n\n```{{{name}}}\n```\n", pages.join(ledger_page.marked_tests(root), root))


def test_no_gap_when_all_is_there(small_book):
    root = small_book(
        toml_row("eq1") + toml_row("claim1", "claim"), {"a.claim1": "holds"}, TEST.format(name="eq1")
    )
    assert found_gaps(root) == []
    page = page_of(root)
    assert page.startswith("Before.\n")
    assert "../chapters/a.ipynb#a-section" in page
    assert (
        page.index("**a.claim1**")
        < page.index("1 equation, definition or algorithm: 1 hold")
        < page.index("**a.eq1**")
    )
    assert ":pyobject: test_eq1" in page.partition("**a.eq1**")[2]
    count = pages.join(ledger_page.marked_tests(root), root)["articles"]["a"]["count"]
    assert [count[sort]["holds"] for sort in ("claim", "equation", "addition")] == [1, 1, 0]


def test_a_test_unfolds_once(small_book):
    test = TEST.format(name="eq1").replace("'a.eq1'", "'a.eq1', 'a.eq2'") + FAILS.format(name="eq2")
    root = small_book(toml_row("eq1") + toml_row("eq2", expected="restricted", why="w"), {}, test)
    assert found_gaps(root) == []
    second = page_of(root).partition("**a.eq2**")[2]
    assert '<a href="#test_eq1">test_eq1</a>, above' in second
    assert ":pyobject: test_eq2_fails" in second
    assert "(where it fails)" in second


def test_the_errata_begin_with_the_gravest_and_keep_the_order_of_the_numbers(small_book):
    rows = toml_row("claim2", "claim", "unreached", "four") + toml_row(
        "eq1", expected="restricted", why="one"
    )
    rows += toml_row("claim1", "claim", "refuted", "two") + toml_row("ours", "addition", "refuted", "three")
    rows += toml_row("eq2", expected="restricted", why="five", erratum="correction")
    verdicts = {
        "a.eq1": "restricted",
        "a.claim1": "refuted",
        "a.ours": "refuted",
        "a.claim2": "unreached",
        "a.eq2": "restricted",
    }
    root = small_book(rows, verdicts)
    nb = nbformat.read(root / "chapters" / "a.ipynb", as_version=4)
    nb.cells[1].outputs[0].data[ledger.MIME_TYPE]["measured"] = [["d", 2.0], ["b", 1.0], ["c", 3], ["a", 4]]
    nbformat.write(nb, root / "chapters" / "a.ipynb")
    errata = page_of(root, "errata")
    assert re.findall(r'<a href="ledger.html#a-\w+">(a\.\w+)</a>', errata) == [
        "a.eq2",
        "a.eq1",
        "a.claim1",
        "a.claim2",
    ]
    assert re.findall(r"^## (\w+)", errata, re.M) == ["Mathematical", "Missing", "Not", "Not"]
    assert "- **Measured**: d = 2; b = 1; c = 3.\n" in errata
    assert "- **How much depends on it**: A slip." in errata
    assert "```python\nassert 1 > 0\n```" in errata
    assert re.findall(r"\*\*(a\.\w+)\*\*", page_of(root)) == [
        "a.claim2",
        "a.claim1",
        "a.ours",
        "a.eq1",
        "a.eq2",
    ]


def test_editions_are_counted_apart(small_book):
    root = small_book(toml_row("claim1", "claim"), {"a.claim1": "holds"})
    joined = pages.join(ledger_page.marked_tests(root), root)
    other = {**joined["articles"]["a"], "edition": 2, "title": "Second"}
    text = pages.ledger_text({"articles": {**joined["articles"], "b": other}})
    order = re.findall(r"^\| (.+?) \| 1 \| 1 \|$", text, re.M)
    assert order == ["[Second](#b)", "**second edition**", "[T](#a)", "**first edition, being revised**"]


@pytest.mark.parametrize(
    ("rows", "verdicts", "tests", "message"),
    [
        (toml_row("eq1"), {}, "", "a.eq1 has no evidence"),
        (toml_row("eq1"), {"a.eq1": "refuted"}, "", "expected to be holds, but is refuted"),
        (toml_row("claim1", "claim"), {}, TEST.format(name="claim1"), "has no verdict in chapters/a.ipynb"),
        (toml_row("eq1"), {"a.eq1": "holds", "a.eq9": "holds"}, "", "no row for a.eq9"),
        (toml_row("eq1"), {"a.eq1": "holds"}, TEST.format(name="eq9"), "verifies a.eq9, which has no row"),
        (
            toml_row("eq1", expected="restricted", why="w"),
            {"a.eq1": "holds"},
            "",
            "to be restricted, but is holds",
        ),
        (
            toml_row("eq1", expected="restricted", why="w"),
            {},
            TEST.format(name="eq1"),
            "to be restricted, but is holds",
        ),
        (
            toml_row("eq1", expected="restricted", why="w"),
            {"a.eq1": "restricted"},
            TEST.format(name="eq1"),
            "a.eq1 is restricted, which needs a test that verifies it, and one that fails it",
        ),
        (toml_row("eq1"), {"a.eq1": "holds"}, "", "a.eq1 is holds, which needs tests that say so"),
        (
            toml_row("claim1", "claim", "untested"),
            {"a.claim1": "holds"},
            "",
            "a.claim1 is untested, but has evidence",
        ),
        (
            toml_row("eq1", expected="refuted", why="w", code=""),
            {"a.eq1": "refuted"},
            "",
            "a.eq1 corrects the article, and has no code that shows it",
        ),
        (
            toml_row("eq1", expected="refuted", why="w", grave=""),
            {"a.eq1": "refuted"},
            "",
            "`grave` must say",
        ),
        (
            toml_row("eq1"),
            {},
            "import pytest\n\n@pytest.mark.gpu\n@pytest.mark.verifies('a.eq1')\ndef test_eq1():\n    pass\n",
            "a.eq1 has no evidence",
        ),
    ],
)
def test_gaps_are_noticed(small_book, rows, verdicts, tests, message):
    assert any(message in gap for gap in found_gaps(small_book(rows, verdicts, tests)))


def test_a_claim_of_a_second_edition_names_its_rule(small_book):
    root = small_book(toml_row("claim1", "claim", rule="r", entry="e"), {"a.claim1": "holds"})
    assert found_gaps(root) == []
    path = root / "ledger" / "a.toml"
    path.write_text(path.read_text().replace("edition=1", "edition=2"))
    ledger.load.cache_clear()
    assert found_gaps(root) == ["a.claim1 is a claim of a second edition, and has no fixed"]


def test_a_row_that_changed_after_its_chapter_ran_is_noticed(small_book):
    root = small_book(toml_row("claim1", "claim", ours="twice"), {"a.claim1": "holds"})
    assert found_gaps(root) == []
    path = root / "ledger" / "a.toml"
    path.write_text(path.read_text().replace("twice", "once"))
    ledger.load.cache_clear()
    assert found_gaps(root) == ["chapters/a.ipynb shows another text of a.claim1: make run SLUG=a"]


def test_no_row_disappears_in_silence(small_book):
    root = small_book(toml_row("eq1"), {}, TEST.format(name="eq1"))
    (root / "ledger" / "evidence.json").write_text(
        json.dumps({"verifies": {}, "fails": {}, "rows": ["a.eq1", "a.eq0"]})
    )
    assert found_gaps(root) == ["a.eq0 was a row: ledger/retired.toml must say where it went"]
    (root / "ledger" / "retired.toml").write_text("[[moved]]\nid='a.eq0'\nto=['a.eq1', 'a.eq2']\nwhy='w'\n")
    assert found_gaps(root) == ["ledger/retired.toml: a.eq0 went to a.eq2, which is no row"]


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (toml_row("eq1") + toml_row("eq1"), "ids must be unique, got \\['a.eq1'\\]"),
        (toml_row("eq1").replace("a.eq1", "b.eq1"), "ids must start with 'a.', got \\['b.eq1'\\]"),
        (toml_row("eq1", sort="guess"), "sort of a.eq1 must be one of .*, got 'guess'"),
        (toml_row("eq1", kind="guess"), "kind of a.eq1 must be one of .*, got 'guess'"),
        (toml_row("eq1", expected="maybe"), "expected of a.eq1 must be one of .*, got 'maybe'"),
        (
            toml_row("claim1", sort="claim", kind="limit"),
            "a.claim1 must have a kind if it is an equation, and only",
        ),
        (toml_row("eq1", expected="refuted"), "a.eq1 is refuted: its row must say why"),
        (toml_row("eq1", expected="untested"), "a.eq1 is untested: only a claim may be"),
        (toml_row("eq1") + "shown=false", "a.eq1 is not shown: its row must say why_hidden"),
        (
            toml_row("eq1") + 'code="""' + "\n" * 2 + "x\n" * 6 + '"""',
            "code of a.eq1 must have at most five lines",
        ),
        (toml_row("eq1") + "expect='holds'", "a.toml, row a.eq1: .*unexpected keyword argument 'expect'"),
        ("[[row]]\nid='a.eq1'", "a.toml, row a.eq1: .*missing .* 'sort'"),
        (toml_row("eq1").replace("a.eq1", "ab.eq1"), "ids must start with 'a.', got \\['ab.eq1'\\]"),
    ],
)
def test_malformed_rows_are_named(small_book, rows, message):
    root = small_book(rows, {})
    with pytest.raises(ValueError, match=message):
        ledger.load("a", root / "ledger")


def test_two_verdicts_on_one_row_are_an_error(small_book, tmp_path):
    root = small_book(toml_row("eq1"), {"a.eq1": "holds"})
    path = root / "chapters" / "a.ipynb"
    nb = nbformat.read(path, as_version=4)
    nb.cells[1].outputs *= 2
    nbformat.write(nb, path)
    with pytest.raises(ValueError, match=r"two verdicts on a\.eq1"):
        pages.verdicts(path)


@pytest.fixture
def command_line(small_book, monkeypatch):
    """Runs tools/ledger_page.py on a small book: (arguments) -> exit status."""

    def run(root: Path, *arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["ledger_page.py", *arguments])
        return ledger_page.main(root)

    return run


def test_command_line_writes_and_checks(small_book, command_line, tmp_path, capsys):
    root = small_book(toml_row("eq1"), {}, TEST.format(name="eq1"))
    assert command_line(root, "check") == 1
    assert "ledger/evidence.json is out of date: run `make ledger`" in capsys.readouterr().err
    assert command_line(root, "write") == 0
    assert command_line(root, "check") == 0
    assert "1 rows, 0 untested, each other with evidence" in capsys.readouterr().out
    (root / "none.json").write_text('{"verifies": {}, "fails": {}}')  # no test passed
    assert command_line(root, "check", "--evidence", str(root / "none.json")) == 1
    assert "a.eq1 has no evidence" in capsys.readouterr().err


RECORDED = """
import pytest
def mark(*ids): return pytest.mark.verifies(*ids)

@mark("a.eq1", "a.eq2")
def test_passes(): pass

@mark("a.eq3")
def test_fails(): raise AssertionError

@mark("a.eq4")
@pytest.mark.skip
def test_is_skipped(): pass

@mark("a.eq5")
@pytest.mark.parametrize("case", [1, 2])
def test_fails_in_one_case(case): assert case == 1

@mark("a.eq6")
@pytest.mark.parametrize("case", [1, 2])
def test_passes_in_both_cases(case): pass

@pytest.mark.fails("a.eq6")
def test_shows_where(): pass

@mark("a.eq2")
@pytest.mark.gpu
def test_needs_a_gpu(): import torch; assert torch.cuda.is_available()
"""


@pytest.mark.system
@pytest.mark.parametrize("workers", ["0", "2"])
def test_evidence_is_what_passed(tmp_path, monkeypatch, workers):
    test = tmp_path / "test_recorded.py"
    test.write_text(RECORDED)
    monkeypatch.chdir(ROOT)  # where the workers look for conftest.py
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # others would take longer than the tests
    arguments = ["-c", "pyproject.toml", "--rootdir", str(tmp_path), "-p", "xdist", "-p", "conftest"]
    arguments += ["-n", workers, "--evidence", str(tmp_path / "evidence.json"), str(test)]
    assert pytest.main(arguments) == pytest.ExitCode.TESTS_FAILED
    evidence = json.loads((tmp_path / "evidence.json").read_text())
    assert [test.rpartition("::")[2] for test in evidence["fails"].pop("a.eq6")] == ["test_shows_where"]
    assert evidence["fails"] == {}
    names = {row: [name.rpartition("::")[2] for name in tests] for row, tests in evidence["verifies"].items()}
    if torch.cuda.is_available():
        names["a.eq2"].remove("test_needs_a_gpu")
    assert names == {
        "a.eq1": ["test_passes"],
        "a.eq2": ["test_passes"],
        "a.eq6": ["test_passes_in_both_cases"],
    }


# --- Verdicts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("holds", "restricted", "outcome"),
    [
        (True, False, "holds"),
        (True, True, "holds"),
        (False, True, "restricted"),
        (False, False, "refuted"),
        (None, True, "open"),
        (torch.tensor(True), False, "holds"),
        (np.bool_(False), np.bool_(True), "restricted"),
        (torch.tensor(1.0) < 0, torch.tensor(False), "refuted"),
    ],
)
def test_outcomes(holds, restricted, outcome):
    assert ledger.outcome_of(holds, restricted) == outcome
    assert ledger.outcome_of(holds, restricted, reached=np.bool_(True)) == outcome
    assert ledger.outcome_of(holds, restricted, reached=np.bool_(False)) == "unreached"


@pytest.mark.parametrize("bad", [1, "yes", torch.tensor([True, False]), torch.tensor(1.0), [], 0.0])
def test_a_truth_value_is_demanded(bad):
    with pytest.raises(TypeError, match="holds must be a single truth value, got"):
        ledger.outcome_of(bad)
    with pytest.raises(TypeError, match="restricted must be a single truth value, got"):
        ledger.outcome_of(False, bad)
    with pytest.raises(TypeError, match="reached must be a single truth value, got"):
        ledger.outcome_of(True, reached=bad)


def test_a_verdict_that_differs_from_its_row_stops_with_a_readable_message():
    with pytest.raises(VerdictError) as caught:
        verdict("smoothing.eq2", holds=torch.tensor(False), measured={"error": 0.123456789})
    message = str(caught.value)
    assert "smoothing.eq2 came out as 'refuted', but its row in the ledger says 'holds'" in message
    assert "error = 0.1235" in message
    assert "ledger/smoothing.toml" in message


@pytest.mark.parametrize("expected", ledger.OUTCOMES)
@pytest.mark.parametrize(
    ("holds", "restricted", "reached", "outcome"),
    [
        (True, False, True, "holds"),
        (False, True, True, "restricted"),
        (False, False, True, "refuted"),
        (None, False, True, "open"),
        (True, False, False, "unreached"),
    ],
)
def test_every_difference_stops_the_chapter(
    monkeypatch, capsys, expected, holds, restricted, reached, outcome
):
    monkeypatch.setattr(
        ledger, "row", lambda _: Row("a.eq1", "claim", "here", "it is so", expected, why="why")
    )
    if outcome == expected:
        verdict("a.eq1", holds, restricted=restricted, reached=reached)
        assert capsys.readouterr().out.startswith(f"a.eq1: {outcome}")
    else:
        with pytest.raises(
            VerdictError, match=f"came out as '{outcome}', but its row in the ledger says '{expected}'"
        ):
            verdict("a.eq1", holds, restricted=restricted, reached=reached)


def test_unknown_rows_are_named():
    with pytest.raises(
        VerdictError, match=r"came out as 'holds', .*says 'untested'.\n.*\n.*nobody has tried it yet"
    ):
        verdict("infomap.size", holds=torch.tensor(True))
    with pytest.raises(ValueError, match=r"no row 'smoothing\.eq99'"):
        verdict("smoothing.eq99", holds=torch.tensor(True))
    with pytest.raises(ValueError, match=r"slug must be one of \[.*'smoothing'.*\], got 'smoothe'"):
        ledger.load("smoothe")


def test_measured_values_must_be_finite():
    with pytest.raises(ValueError, match=r"measured\['error'\] must be finite, got nan"):
        verdict("smoothing.eq2", holds=torch.tensor(True), measured={"error": torch.tensor(float("nan"))})


def test_measured_values_must_be_single_numbers():
    with pytest.raises(TypeError, match=r"measured\['error'\] must be a single number, got tensor"):
        verdict("smoothing.eq2", holds=torch.tensor(True), measured={"error": torch.ones(2)})


def test_whole_numbers_are_shown_in_full(capsys):
    verdict("smoothing.eq2", holds=torch.tensor(True), measured={"n": np.int64(123456), "x": 123456.7})
    assert capsys.readouterr().out == "smoothing.eq2: holds {'n': 123456, 'x': 123500.0}\n"


def test_a_verdict_outside_jupyter_prints(capsys):
    verdict(
        "smoothing.eq2", holds=torch.tensor(True), measured={"error": torch.tensor(0.5, requires_grad=True)}
    )
    assert capsys.readouterr().out == "smoothing.eq2: holds {'error': 0.5}\n"


def test_a_verdict_in_jupyter_carries_text_html_and_values(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.get_ipython", lambda: object())
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    verdict("smoothing.eq2", holds=torch.tensor(True), measured={"error": 0.25, "n": 3, "who": "us"})
    (data,) = shown
    assert data["text/plain"] == "smoothing.eq2: holds"
    assert data[ledger.MIME_TYPE] == {
        "id": "smoothing.eq2",
        "verdict": "holds",
        "measured": [["error", 0.25], ["n", 3], ["who", "us"]],
    }
    sentence, more = data["text/html"].split("<details>")
    assert '<span class="measured">error = 0.25</span>' in sentence
    assert '<span class="measured">n = 3; who = us</span>' in more


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(4.21e-6, -0.00621, 0.00622), "0.0000 (-0.0062 to 0.0062)"),
        (Interval(-1e-6, -0.4, 0.4), "0.00 (-0.40 to 0.40)"),
        (Interval(1234.5, 1200.0, 1270.0), "1234 (1200 to 1270)"),
        (Interval(0.5, 0.5, 0.5), "0.500 (0.500 to 0.500)"),
    ],
)
def test_an_interval_has_two_digits_of_its_half_width(capsys, interval, text):
    verdict("smoothing.eq2", holds=torch.tensor(True), measured={"gain": interval})
    assert capsys.readouterr().out == f"smoothing.eq2: holds {{'gain': '{text}'}}\n"


def test_an_interval_decides_only_beyond_its_bound(capsys):
    around, above = Interval(0.5, -0.25, 1.25), Interval(0.5, 0.25, 0.75)
    with pytest.raises(
        ValueError, match=r"holds must be None where the interval 0\.5 \(-0\.25 to 1\.25\) contains 0"
    ):
        verdict("smoothing.eq2", torch.tensor(True), measured={"gain": around}, bound=0.0)
    with pytest.raises(VerdictError, match="came out as 'open'"):
        verdict("smoothing.eq2", around.beyond(0.0), measured={"gain": around}, bound=0.0)
    with pytest.raises(
        ValueError, match=r"measured must begin with an Interval where there is a bound, got 0\.5"
    ):
        verdict("smoothing.eq2", torch.tensor(True), measured={"gain": 0.5}, bound=0.0)
    with pytest.raises(ValueError, match=r"measured\['gain'\] must be finite"):
        verdict("smoothing.eq2", torch.tensor(True), measured={"gain": Interval(0.5, 0.25, np.inf)})
    verdict("smoothing.eq2", above.beyond(0.0), measured={"gain": above}, bound=0.0)
    assert capsys.readouterr().out == "smoothing.eq2: holds {'gain': '0.50 (0.25 to 0.75)'}\n"


def test_the_box_escapes_html_and_leaves_mathematics():
    row = Row("a.eq1", "claim", "eq. (1)", "$a < b$ & more", "refuted", why="<b>no</b>")
    box = ledger.box(row, "refuted", {})
    assert "&lt;b&gt;no&lt;/b&gt;" in box
    assert "\\(a &lt; b\\) &amp; more" in box
    assert "measured" not in box


def test_rows_are_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ledger.row("smoothing.eq1").expected = "refuted"


def test_no_slug_leaves_the_folder():
    with pytest.raises(ValueError, match="slug must be one of"):
        ledger.load("../pyproject")


def test_the_id_of_a_row_is_text_in_its_box():
    row = dataclasses.replace(ledger.row("smoothing.eq2"), id="a.<script>")
    assert "<script>" not in ledger.box(row, "holds", {})

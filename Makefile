# Executable Scientific Spaces. `make help` lists the commands; CONTRIBUTING.md gives them without make.

PYTHON ?= python3
VENV ?= .venv
OUT ?= .
BUILD = $(OUT)/_build
HTML = $(BUILD)/html
# Always from nothing (seconds): a second build would not read a page that gave a warning again, and pass.
FRESH = rm -rf "$(HTML)" "$(BUILD)/.doctrees"
SLUG ?=

# Quoted wherever they are used: folders may contain spaces. Programs are started through Python, since
# the scripts in bin/ name the place where they were installed.
PY = "$(VENV)/bin/python"
SPHINX = $(PY) -c "from jupyter_book.cli.main import main; main()" build -W -n --keep-going
ABSOLUTE_PY = "$$(cd "$(VENV)/bin" && pwd)/python"
NBVAL = -p no:cacheprovider --nbval --nbval-current-env --nbval-cell-timeout=600 --nbval-sanitize-with tests/nbval_sanitize.cfg
STAGES = venv unit notebooks html links browser printed
# Tests of the built book.
NOT_BUILT = --ignore tests/book/test_pages.py --ignore tests/book/test_printed_book.py
# Two cores: chapters side by side beat one chapter on two threads.
WORKERS ?= auto

export PYTHONUTF8 = 1
export JUPYTER_PLATFORM_DIRS = 1
# Of one test, in seconds: the slowest takes two minutes on two busy cores, and one that hangs says where.
export PYTEST_TIMEOUT ?= 900
ifneq ($(wildcard ../shared/data),)
export KEXUE_DATA ?= $(abspath ../shared/data)
endif

.NOTPARALLEL: # all of them write to _build
.DEFAULT_GOAL := help
.PHONY: help venv book html pdf epub html-next test test-hard unit notebooks browser printed links check format lock lab new run sync ledger bench mutants gpu preview replay clean writable

help: ## show this list
	@echo "Executable Scientific Spaces"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

venv: ## create or update .venv with all extras (PYTHON=python3.12 picks another Python)
	@ASKED_PYTHON="$(if $(findstring command line,$(origin PYTHON)),$(PYTHON))" $(PYTHON) tools/install.py "$(VENV)"

book: writable venv ## execute every chapter on this machine and build the book from the results
	@$(PY) tools/execute.py book "$(BUILD)/book"
	@$(FRESH)
	@$(SPHINX) "$(BUILD)/book/source" --path-output "$(OUT)" --quiet
	@test -f "$(HTML)/index.html"
	@echo "The book: open $$(cd "$(HTML)" && pwd)/index.html"

html: writable venv ## build the book from the committed outputs, in seconds
	@$(FRESH)
	@$(SPHINX) . --path-output "$(OUT)" --quiet
	@test -f "$(HTML)/index.html"
	@echo "The book: open $$(cd "$(HTML)" && pwd)/index.html"

pdf: html ## the book as one PDF (needs Chromium)
	@$(PY) tools/printed_book.py "$(HTML)" "$(BUILD)/executable-scientific-spaces.pdf"

epub: html ## the book as an e-book (needs Chromium)
	@$(PY) tools/ebook.py "$(HTML)" "$(BUILD)/executable-scientific-spaces.epub"

html-next: html ## the same book by the newest Sphinx without Jupyter Book, and what differs
	@$(PY) tools/next_book.py "$(HTML)" "$(BUILD)/next"

test: ## prove it: unit tests, pairs, ledger, notebooks, strict build, links, browser, print; how long each takes
	@table=; total=0; for stage in $(STAGES); do \
	  began=$$(date +%s); $(MAKE) --no-print-directory $$stage && failed= || failed=" failed"; \
	  took=$$(($$(date +%s) - began)); total=$$((total + took)); \
	  table="$$table$$(printf '%-10s %5d s' $$stage $$took)$$failed\n"; test -z "$$failed" || break; \
	done; printf '%b%-10s %5d s\n' "$$table" total $$total; \
	test -z "$$failed" && echo "All tests passed." || { echo "Failed: $$stage"; exit 1; }

unit: writable venv
	@COVERAGE_CORE=$$($(PY) -c "import sys; print('sysmon' if sys.version_info >= (3, 12) else 'ctrace')") \
	  $(PY) -m pytest tests $(NOT_BUILT) -q -n $(WORKERS) --dist worksteal --cov --cov-report=term --evidence "$(BUILD)/evidence.json"
	@$(PY) tools/ledger_page.py check --evidence "$(BUILD)/evidence.json"

# The largest first, so that no worker is idle for long in the end.
notebooks: venv
	@$(PY) -m pytest $(patsubst %.py,%.ipynb,$(shell ls -S chapters/*.py)) $(NBVAL) -q -n $(WORKERS) --dist loadscope --no-loadscope-reorder

browser: venv # the page must be there: make html
	@$(PY) -m pytest tests/book/test_pages.py -q -rs -n $(WORKERS) --dist worksteal --html-dir "$(HTML)"

printed: venv # the page must be there: make html
	@$(PY) -m pytest tests/book/test_printed_book.py -q -rs -n 2 --dist loadscope --html-dir "$(HTML)"

links: venv # the pages must be there: make html
	@$(PY) tools/links.py "$(HTML)"

test-hard: venv ## the same with one thread, without AVX-512, three times in a row
	@for round in 1 2 3; do echo "Round $$round of 3"; \
	  OMP_NUM_THREADS=1 ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=AVX2 OPENBLAS_CORETYPE=Haswell MKL_ENABLE_INSTRUCTIONS=AVX2 \
	  NPY_DISABLE_CPU_FEATURES="$$($(PY) tools/avx512.py)" $(MAKE) --no-print-directory test || exit 1; done

check: venv ## format, lint, types, pairs and unit tests, in under a minute: before each commit
	@$(PY) -m ruff format --check --quiet . || { echo "Formatting differs: make format"; exit 1; }
	@$(PY) -m ruff check --quiet .
	@# types and ledger beside the tests, which are without plugins that they do not use and every process would import
	@( $(PY) -m mypy --no-error-summary && $(PY) tools/ledger_page.py check ) & others=$$!; \
	  $(PY) -m pytest tests $(NOT_BUILT) -m "not system and not slow" -q -n $(WORKERS) --dist worksteal \
	    -p no:nbval -p no:anyio -p no:typeguard; \
	  tests=$$?; wait $$others && exit $$tests

format: venv
	@$(PY) -m ruff format --quiet .
	@$(PY) -m ruff check --fix --quiet .

lock: venv ## write constraints.txt anew from pyproject.toml, for all Pythons and systems (UPGRADE=1: newest versions)
	@$(PY) -m uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --no-annotate --no-header \
	  --no-emit-index-url --quiet $(if $(UPGRADE),--upgrade) --output-file constraints.txt

lab: venv ## open the chapters in Jupyter
	@python=$(ABSOLUTE_PY); cd chapters && "$$python" -m jupyterlab

new: venv ## begin a chapter: make new SLUG=entropy TITLE="Entropy, by counting" ARTICLE=5448
	@$(PY) tools/new.py "$(SLUG)" "$(TITLE)" "$(ARTICLE)" "$(DATE)" "$(ZH)"

run: venv ## execute one chapter from its .py and write its outputs back: make run SLUG=smoothing
	@test -n "$(SLUG)" || { echo "Say which: make run SLUG=smoothing"; exit 2; }
	@$(PY) tools/execute.py run "$(SLUG)"

sync: venv ## bring each .py and .ipynb in step, the newer one wins
	@python=$(ABSOLUTE_PY); cd chapters && "$$python" -m jupytext --sync *.py

ledger: writable venv ## write down which tests are evidence for which row of the ledger
	@$(PY) -m pytest tests -m "verifies or fails" -q -n $(WORKERS) --dist loadscope $(NOT_BUILT) --evidence "$(BUILD)/evidence.json"
	@$(PY) tools/ledger_page.py write --evidence "$(BUILD)/evidence.json"

bench: venv ## speed beside the peers, as ratios within one run
	@$(PY) -m pytest benchmarks -q --benchmark-columns=median,iqr,rounds --benchmark-group-by=group --benchmark-sort=mean

mutants: venv ## mutation tests of src/kexue, or of one module: make mutants SLUG=smoothing
	@rm -rf mutants
	@OMP_NUM_THREADS=1 $(PY) -m mutmut run $(if $(SLUG),"kexue.$(SLUG)*")
	@$(PY) -m mutmut results

replay: venv ## recorded runs: all files, then as many first steps as fit into MINUTES=2; ALL=1: all of them
	@$(PY) tools/replay.py $(if $(ALL),--all) $(if $(filter-out file undefined,$(origin MINUTES)),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

gpu: ## on a machine with CUDA: tests, GPU cells, benchmarks, recordings, in MINUTES=8 (PYTHON holds PyTorch)
	@$(PYTHON) tools/gpu.py run --minutes $(if $(filter file undefined,$(origin MINUTES)),8,$(MINUTES)) \
	  --out "$(BUILD)/gpu" $(if $(PACK),--pack "$(PACK)")

preview: venv ## take the pictures of the book, for the README and for links to it (after make html)
	@$(PY) tools/preview.py "$(HTML)" _static

clean: ## remove what was built (not .venv)
	rm -rf "$(BUILD)" mutants .coverage .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -not -path "./.venv/*" -prune -exec rm -rf {} +

writable:
	@mkdir -p "$(BUILD)" 2>/dev/null && test -w "$(BUILD)" || { \
	  echo "Cannot write to $(BUILD). Name a folder that can be written:"; \
	  echo "  make book OUT=\$$HOME/kexue VENV=\$$HOME/kexue/venv"; exit 1; }

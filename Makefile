# make lab    set up the environment, open notebook 00 in JupyterLab (CPU=1: PyTorch without CUDA, saves 5 GB on Linux)
# make quick  lint, types and the quick tests, without browser or notebooks (about 100 seconds)
# make test   all tests, and every notebook against its saved outputs (about 10 minutes on two slow cores)
# make again  the long tests: every notebook three times more (in a browser, with another seed, on a pretended GPU), runs
#             that are killed, real photos (about 18 minutes on two slow cores)
# make site   build site/: the notebooks as pages with live sliders, and the model in the browser (at most 10 minutes)
# make bench  rerun all benchmarks, into benchmarks/results (hours)

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
NOTEBOOKS := $(sort $(wildcard notebooks/*.ipynb))
FIRST := $(wildcard notebooks/00_*.ipynb notebooks/07_*.ipynb)
LAB_FLAGS ?=

.PHONY: setup lab quick unit test again site site-test lint notebooks bench studies versions clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "需要 Python 3.10 或更新版本：make PYTHON=/path/to/python3.12 ... | Python 3.10 or newer is needed"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
ifdef CPU
	$(BIN)/python -m pip install --quiet --index-url https://download.pytorch.org/whl/cpu torch torchvision
endif
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.ready-test: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

# Jupyter listens on this computer only and keeps its token.
lab: $(VENV)/.ready
	$(BIN)/jupyter lab --ServerApp.ip=127.0.0.1 $(LAB_FLAGS) $(firstword $(NOTEBOOKS))

# 00 and 07 start first, as they would for a reader: they train the two models that the other notebooks load. Two
# processes share the files; with more than one thread each, they would compete for the cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder \
	--timeout=900 --durations=15

test: $(VENV)/.ready-test
	$(PYTEST) --nbval --nbval-current-env --nbval-cell-timeout=900 --nbval-sanitize-with=tests/nbval_sanitize.cfg \
		-m 'not again' --ignore=tests/site $(FIRST) $(filter-out $(FIRST), $(NOTEBOOKS)) tests

# One process drives the browser, the other does everything else.
again: $(VENV)/.ready-test
	$(PYTEST) -m again --ignore=tests/site tests

site: $(VENV)/.ready-test
	OMP_NUM_THREADS=1 $(BIN)/python -m clipedu.classroom.site --out site

site-test: site
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 0 --timeout=300 --durations=15 tests/site

# Both at once: mypy has a single process.
quick: $(VENV)/.ready-test
	@$(MAKE) --no-print-directory -j2 lint unit

unit: $(VENV)/.ready-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --numprocesses=2 -m 'not slow' tests

lint: $(VENV)/.ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Execute all notebooks in place, ready to commit.
notebooks: $(VENV)/.ready
	$(BIN)/python -m clipedu.classroom.execute $(NOTEBOOKS)

# Sequential, so that the measurements do not disturb each other. Photos are measured only if CLIPEDU_FLICKR8K is set.
bench: $(VENV)/.ready-test
	$(BIN)/python -m benchmarks.time_to_recall
	$(BIN)/python -m benchmarks.time_to_recall --trials --seeds 2
	$(BIN)/python -m benchmarks.against_open_clip
	$(BIN)/python -m benchmarks.loss_memory --rounds 2 --repeats 1
	$(BIN)/python -m benchmarks.search_scale
	$(BIN)/python -m benchmarks.scaling --rounds 2
	$(BIN)/python -m benchmarks.loading
ifdef CLIPEDU_FLICKR8K
	for language in en zh both; do \
		$(BIN)/python -m benchmarks.flickr8k --data-dir $(CLIPEDU_FLICKR8K) --language $$language || exit 1; done
	$(BIN)/python -m benchmarks.flickr8k --data-dir $(CLIPEDU_FLICKR8K) --changes
endif
	$(BIN)/python -m benchmarks.starts
	test -d emoji || $(BIN)/python -m clipedu create-dataset --kind emoji --out emoji
	$(BIN)/python -m benchmarks.languages
	$(BIN)/python -m benchmarks.choices
	$(BIN)/python -m benchmarks.steps
	$(BIN)/python -m benchmarks.temperature
	$(BIN)/python -m benchmarks.zero_shot
	$(BIN)/python -m benchmarks.word_order
	$(BIN)/python -m benchmarks.word_order --only "swap en" --steps 666 --name word_order_longer
	$(BIN)/python -m benchmarks.word_order --only "swap zh" --steps 888 --name word_order_chinese
	$(BIN)/python -m benchmarks.word_order --only "both orders zh" --steps 888 --name word_order_both_orders
	$(BIN)/python -m benchmarks.page

# Collect the evidence that takes hours, into studies/results.
studies: $(VENV)/.ready-test
	for study in faults interruptions circumstances fuzzing; do $(BIN)/python -m studies.$$study || exit 1; done

# The versions the tests ran with: for reinstalling exactly the same, and for pip-audit, which needs a network.
versions: $(VENV)/.ready-test
	@{ $(BIN)/python -c 'import platform; print(f"# Python {platform.python_version()}, {platform.system()}")'; \
		$(BIN)/python -m pip freeze --exclude-editable; } > docs/versions.txt

clean:
	rm -rf $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis artifacts

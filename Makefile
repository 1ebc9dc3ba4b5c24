# make lab    environment, then JupyterLab on notebook 00 (CPU=1: PyTorch without CUDA, 5 GB less on Linux)
# make quick  lint, types and the quick tests: no browser, no notebook executed (at most 90 seconds)
# make test   every test and every notebook (10 minutes; 7 without a browser)
# make bench  every measurement of benchmarks/, into benchmarks/results (hours)

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
NOTEBOOKS := $(sort $(wildcard notebooks/*.ipynb))
LAB_FLAGS ?=

.PHONY: setup lab quick test lint notebooks bench studies versions clean

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

# 00 comes first, as for a reader: it trains the small model that the others find. Then two processes share the rest, a
# whole file at a time: one drives the browser, one does all else. With more threads they would wait for one another.
PYTEST := $(BIN)/python -m pytest --nbval --nbval-current-env --nbval-cell-timeout=600 \
	--nbval-sanitize-with=tests/nbval_sanitize.cfg --durations=15

test: $(VENV)/.ready-test
	$(PYTEST) $(firstword $(NOTEBOOKS))
	OMP_NUM_THREADS=1 $(PYTEST) --numprocesses=2 --dist=loadfile --no-loadscope-reorder tests $(wordlist 2, 99, $(NOTEBOOKS))

quick: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --numprocesses=2 -m 'not slow' tests

lint: $(VENV)/.ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Execute all notebooks in place, for commit.
notebooks: $(VENV)/.ready
	$(BIN)/python -m clipedu.classroom.execute $(NOTEBOOKS)

# One after the other, so that none disturbs another. The photos are measured where they are at hand.
bench: $(VENV)/.ready-test
	$(BIN)/python -m benchmarks.time_to_recall
	$(BIN)/python -m benchmarks.time_to_recall --trials --seeds 2
	$(BIN)/python -m benchmarks.against_open_clip
	$(BIN)/python -m benchmarks.loss_memory --rounds 2 --repeats 1
	$(BIN)/python -m benchmarks.search_scale
	$(BIN)/python -m benchmarks.scaling --rounds 2
	$(BIN)/python -m benchmarks.loading
ifdef CLIPEDU_FLICKR8K
	$(BIN)/python -m benchmarks.flickr8k --data-dir $(CLIPEDU_FLICKR8K) --run-dir runs/flickr8k_zh --language zh \
		--seeds 0 1 2 3 4 5 6
	for language in en both; do \
		$(BIN)/python -m benchmarks.flickr8k --data-dir $(CLIPEDU_FLICKR8K) --run-dir runs/flickr8k_$$language \
			--language $$language || exit 1; done
	$(BIN)/python -m benchmarks.flickr8k --data-dir $(CLIPEDU_FLICKR8K) --run-dir runs/flickr8k_en --changes
endif
	$(BIN)/python -m benchmarks.starts
	$(BIN)/python -m benchmarks.choices
	$(BIN)/python -m benchmarks.steps
	$(BIN)/python -m benchmarks.page

# Evidence that takes hours, into studies/results.
studies: $(VENV)/.ready-test
	for study in faults interruptions circumstances fuzzing; do $(BIN)/python -m studies.$$study || exit 1; done

# What the tests ran with: to install the very same, and for pip-audit, which asks a network whether faults are known.
versions: $(VENV)/.ready-test
	@{ $(BIN)/python -c 'import platform; print(f"# Python {platform.python_version()}, {platform.system()}")'; \
		$(BIN)/python -m pip freeze --exclude-editable; } > docs/versions.txt

clean:
	rm -rf $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis artifacts

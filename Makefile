# Everything from a fresh machine with Python 3.11+ and make. VENV and PYTHON may be given on the command line.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow test-gpu lint clean

demo: $(VENV)/.base
	$(BIN)/gan-lightning fit --config configs/quickstart.yaml

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -m slow --durations=10

# Needs a CUDA card, and passes over every test without one.
test-gpu: $(VENV)/.test
	$(BIN)/python -m pytest -m gpu --durations=10

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/.base: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, got " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.test: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --editable '.[test]'
# W&B's own search engine, which tests compare with ours, without its ceiling on numpy: with it, everything else would
# be tested with numpy 1 alone.
	$(BIN)/python -m pip install --quiet 'jsonref>=1' 'jsonschema>=4'
	$(BIN)/python -m pip install --quiet --no-deps 'sweeps>=0.3'
	touch $@

$(VENV)/.dev: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

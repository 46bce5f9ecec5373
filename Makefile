# Everything runs in a virtual environment that these targets make themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: train test lint docs figures clean

train: $(STAMP)  ## Train OMD on CartPole: a progress bar, a table, a picture
	$(BIN)/omd train CartPole-v1

test: $(STAMP)  ## Run the test suite
	$(BIN)/python -m pytest -n auto

lint: $(STAMP)  ## Linter, formatter and type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)  ## Build the site into site/, strictly; run the code of pages that take long
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	OMD_SLOW_PAGES=1 $(BIN)/python -m pytest -n auto tests/test_site.py

figures: $(STAMP)  ## Figures 2, 3 and 6 of the paper
	$(BIN)/omd figure 2 3 6 --out figures

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "omd needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

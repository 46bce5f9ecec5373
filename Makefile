# Everything runs in a virtual environment that these targets make themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OLDEST := .venv-oldest
# what meets JAX, equinox, lineax, optax and gymnax most
SHORT := tests/test_config.py tests/implicit/test_methods.py tests/tabular/test_operators.py \
	tests/envs/test_gymnax.py tests/training/test_replay.py tests/agents/test_networks.py
# of each room what takes seconds
FAST := $(SHORT) tests/test_rooms.py tests/test_compilation.py tests/implicit/test_inputs.py \
	tests/implicit/test_registry.py tests/tabular/test_mdp.py tests/tabular/test_constructors.py \
	tests/envs/test_make.py tests/sweeps/test_spec.py

.PHONY: help train test test-fast test-oldest lint docs wheel figures mutants attacks clean

help:  ## This list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

train: $(STAMP)  ## Train OMD on CartPole: a progress bar, a table, a picture
	$(BIN)/omd train CartPole-v1

test: $(STAMP)  ## Run the test suite, with every annotation of the package executed
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not as_shipped"
	$(BIN)/python -m pytest -n auto --dist worksteal -m as_shipped

test-fast: $(STAMP)  ## Of each room the tests that take seconds: after each edit
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not as_shipped" $(FAST)

test-oldest:  ## Some tests with the oldest JAX and libraries that pyproject.toml allows
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	$(PYTHON) .ci/oldest.py > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet --constraint $(OLDEST)/constraints.txt --editable . pytest beartype hypothesis
	OMD_ANNOTATIONS=0 $(OLDEST)/bin/python -m pytest -p no:cacheprovider -m "not as_shipped" $(SHORT)

lint: $(STAMP)  ## Linter, formatter and type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)  ## Build the site into site/, strictly
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

wheel: $(STAMP)  ## Build sdist and wheel, install the wheel elsewhere and train with it
	.ci/wheel $(BIN)/python

mutants: $(STAMP)  ## Plant mutations of formulas, one at a time; each must fail a test (long)
	$(BIN)/python tests/mutants.py

attacks: $(STAMP)  ## Fifty kills, 600 bad inputs, every damage to every stored file (long)
	$(BIN)/python tests/kills.py 50
	OMD_LONG=1 $(BIN)/python -m pytest -n 0 -s tests/test_bad_inputs.py tests/test_damage.py tests/test_kills.py

figures: $(STAMP)  ## Figures 2, 3 and 6 of the paper
	$(BIN)/omd figure 2 3 6 --out figures

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "omd needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) $(OLDEST) .pytest_cache .mypy_cache .ruff_cache

# `make demo` and `make test` need Python 3.11 or newer, git and make; the rest they bring into .venv.

PYTHON ?= python3
CORES ?= $(shell nproc 2>/dev/null || echo 2)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# An inherited "write no bytecode" would make every job compile PyTorch anew.
unexport PYTHONDONTWRITEBYTECODE
unexport PYTHONPATH

.PHONY: setup demo test slow check docs lock
.DEFAULT_GOAL := demo

setup: $(READY)

$(READY): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $@

demo: $(READY)
	$(BIN)/snakemake --cores $(CORES) --configfile config/demo.yaml --quiet rules progress
	@echo "$(CURDIR)/results/demo/report.html"

test: $(READY)
	$(BIN)/python -m pytest

slow: $(READY)
	$(BIN)/python -m pytest -m slow -rs

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/mypy
	$(BIN)/snakemake --lint
	$(BIN)/python envs/write.py --check

docs: $(READY)
	$(BIN)/sphinx-build --quiet --fresh-env --fail-on-warning --keep-going -b html docs docs/_build/html
	@echo "$(CURDIR)/docs/_build/html/index.html"

# Pins every dependency with hashes, and writes the same pins as a conda environment.
lock:
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --extra dev --generate-hashes \
	  --no-emit-index-url --no-annotate --custom-compile-command "make lock" -o requirements.txt pyproject.toml
	$(BIN)/python envs/write.py

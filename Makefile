# `make demo` and `make test` need Python 3.11 or newer, git and make; the rest they bring into .venv.

PYTHON ?= python3
# nproc counts what OMP_NUM_THREADS says, which is one process's share and not the machine's cores.
CORES ?= $(shell env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2>/dev/null || echo 2)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# An inherited "write no bytecode" would make every job compile PyTorch anew.
unexport PYTHONDONTWRITEBYTECODE
unexport PYTHONPATH

# A home that cannot be written (a container's, a service's) has no room for caches: they go into this folder.
ifneq ($(shell test -d "$$HOME" && test -w "$$HOME" && echo yes),yes)
export HOME := $(CURDIR)/.home
$(shell mkdir -p "$(CURDIR)/.home")
endif

.PHONY: setup demo test slow bench check docs figures results record-check lock bundle
.DEFAULT_GOAL := demo

setup: $(READY)

$(READY): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $@

demo: $(READY)
	$(BIN)/snakemake --cores $(CORES) --configfile config/demo.yaml --quiet rules progress
	@echo "$(CURDIR)/results/demo/report.html"

# A file's tests run in one process, one after the other, so that what it makes once is made once.
test: $(READY)
	$(BIN)/python -m pytest -n $(CORES) --dist loadfile

slow: $(READY)
	$(BIN)/python -m pytest -m slow -rs -n $(CORES) --dist loadfile --no-loadscope-reorder

# What the engine's speed is on this machine, the plain way beside it; QUICK=1 takes five minutes at most.
bench: $(READY)
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/snakemake --lint
	$(BIN)/python envs/write.py --check

docs: $(READY)
	$(BIN)/sphinx-build --quiet --fresh-env --fail-on-warning --keep-going -b html docs docs/_build/html
	@echo "$(CURDIR)/docs/_build/html/index.html"

# Tables, figures, verdicts and the page of a folder under recorded/, without training.
figures: $(READY)
	$(BIN)/snakemake --cores 1 --config recorded=$(or $(RECORDED),$(error make figures RECORDED=<name>: a folder of recorded/)) --quiet rules
	@echo "$(CURDIR)/results/$(RECORDED)/report.html"

# The pages of docs/templates, with numbers from committed tables.
results: $(READY)
	$(BIN)/python -m ssa summary README.md docs/results.md docs/findings.md docs/speed.md

# Makes all of that anew for every record, elsewhere, and compares it with what is committed.
record-check: $(READY)
	$(BIN)/python -m pytest -m slow -rs tests/test_committed.py

# Pins every dependency with hashes, and writes the same pins as a conda environment.
lock:
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --extra study --extra dev --generate-hashes \
	  --no-emit-index-url --no-annotate --custom-compile-command "make lock" -o requirements.txt pyproject.toml
	$(BIN)/python envs/write.py

# All that a machine without a network needs: wheels for this kind of machine, a study's data, and this repository.
STUDY ?= config/paper.yaml
BUNDLE ?= bundle
bundle: $(READY)
	mkdir -p $(BUNDLE)
	$(BIN)/python -m pip download --quiet --dest $(BUNDLE)/wheels uv
	$(BIN)/python -m pip download --quiet --no-deps --require-hashes --dest $(BUNDLE)/wheels -r requirements.txt
	$(BIN)/python -m ssa data $(STUDY) --data-root $(BUNDLE)/data
	git bundle create --quiet $(BUNDLE)/ssa.git HEAD

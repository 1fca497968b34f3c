# make demo: install, measure the demo, draw the page.   make site: draw what is published.   make test: run the tests.
# Needs Python 3.11 to 3.13 and a package index, nothing else. Settings: VENV=folder CORES=n PYTHON=interpreter.

VENV ?= .venv
# Without what tells OpenMP how many threads to use, which nproc would believe.
CORES ?= $(shell env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null \
	&& command -v $$p && break; done)
BIN = $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock
SNAKEMAKE = $(BIN)/snakemake --cores $(CORES)

.PHONY: demo site test lint format schemas lock clean

demo: $(VENV)/.installed
	$(SNAKEMAKE) --config scale=demo
	$(BIN)/retable verify --scale demo

# Runs nothing: the published records, and what was run here, become pages.
site: $(VENV)/.installed
	$(BIN)/retable report

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(CORES) --dist worksteal $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflows
	$(BIN)/snakemake --lint

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflows

# Rewrites workflows/schemas/ from the models.
schemas: $(VENV)/.installed
	$(BIN)/python -m retable.schemas

# Resolves the newest versions inside pyproject.toml's ranges; commit the result after `make test`.
lock: $(VENV)/.installed-dev
	$(BIN)/python .ci/lock.py

# Removes what runs and tools write, but for the environment, downloads, results and the published records.
clean:
	rm -rf reports/site reports/tables reports/figures logs build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find retable methods tests workflows benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 to 3.13 with venv and pip found; install one (Debian: python3 python3-venv) or give PYTHON=path" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml requirements.lock | $(BIN)/python
	$(INSTALL) --editable ".[all]"
	@touch $@

$(VENV)/.installed-dev: pyproject.toml requirements.lock | $(BIN)/python
	$(INSTALL) --editable ".[dev]"
	@touch $@ $(VENV)/.installed

# HYDRA lake: `make daily` and `make test` are all that a newcomer needs.

# ── settings ────────────────────────────────────────────────────────────────
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: help env daily test lint types clean
.DEFAULT_GOAL := help

help:            ## this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 20

# ── environment ─────────────────────────────────────────────────────────────
env: $(READY)    ## the environment, with uv where it is on PATH, else venv and pip

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"Python 3.11 or newer is needed, {v[0]}.{v[1]} found: make PYTHON=/path/to/python3.11 ...")'
	@if command -v uv >/dev/null 2>&1; then \
	  uv venv --quiet --allow-existing --python $(PYTHON) $(VENV) && \
	  uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]'; \
	else \
	  $(PYTHON) -m venv $(VENV) && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'; \
	fi
	@touch $(READY)

# ── the two commands ────────────────────────────────────────────────────────
daily: $(READY)  ## land what is new, derive, build, check, report and export
	@$(BIN)/hydra daily

test: $(READY)   ## the whole test suite
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile

# ── for developers ──────────────────────────────────────────────────────────
lint: $(READY)   ## ruff and sqlfluff
	@$(BIN)/ruff check etl mathlib tests benchmarks
	@$(BIN)/ruff format --check etl mathlib tests benchmarks
	@$(BIN)/sqlfluff lint --disable-progress-bar sql

types: $(READY)  ## mypy
	@$(BIN)/mypy

clean:           ## the environment and caches; never the lake
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info

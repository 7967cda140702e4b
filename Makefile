# HYDRA lake: `make daily` and `make test` are all that a newcomer needs.

# ── settings ────────────────────────────────────────────────────────────────
PYTHON ?= python3
VENV   := .venv
BENCH  := .venv-bench
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
DATE   ?= $(shell date -u +%F)
FUZZ_SECONDS ?= 600
SIZES  ?= 1x1 4x5 20x10

# $(call install,folder,extra): an environment, with uv where it is on PATH, else venv and pip.
define install
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"Python 3.11 or newer is needed, {v[0]}.{v[1]} found: make PYTHON=/path/to/python3.11 ...")'
	@if command -v uv >/dev/null 2>&1; then \
	  uv venv --quiet --allow-existing --python $(PYTHON) $(1) && \
	  uv pip install --quiet --python $(1)/bin/python -c constraints.txt -e '.[$(2)]'; \
	else \
	  $(PYTHON) -m venv $(1) && \
	  $(1)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(2)]'; \
	fi
	@touch $@
endef

.PHONY: help env daily test browser httpfs lint types fuzz bench bench-math bench-sabr bench-spine bench-quality bench-people bench-decode kill-points many-builds clean
.DEFAULT_GOAL := help

help:            ## this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 20

# ── environment ─────────────────────────────────────────────────────────────
env: $(READY)    ## the environment, with uv where it is on PATH, else venv and pip

$(READY): pyproject.toml constraints.txt
	$(call install,$(VENV),dev)

# ── the two commands ────────────────────────────────────────────────────────
daily: $(READY)  ## land what is new, derive, build, check, export and report
	@$(BIN)/hydra daily

test: $(READY) browser httpfs  ## the whole test suite
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile

# The report is tested in Chromium; where there is none and root cannot install it, that is skipped.
browser:
	@command -v chromium >/dev/null || test "$$(id -u)" != 0 || ! command -v apt-get >/dev/null || { \
	  apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium; } >/dev/null 2>&1 || true

# A bare DuckDB is tested with its httpfs, of the version of duckdb-cli, where it can be had: the
# package asks for that version of DuckDB itself too, which the command line brings along.
HTTPFS := $(shell sed -n 's/^duckdb-cli/duckdb-extension-httpfs/p' constraints.txt)
httpfs: $(READY)
	@$(BIN)/python -c 'import duckdb_extension_httpfs' 2>/dev/null || \
	  if command -v uv >/dev/null 2>&1; then uv pip install --quiet --no-deps --python $(BIN)/python $(HTTPFS); \
	  else $(BIN)/python -m pip install --quiet --no-deps $(HTTPFS); fi >/dev/null 2>&1 || true

# ── for developers ──────────────────────────────────────────────────────────
lint: $(READY)   ## ruff and sqlfluff
	@$(BIN)/ruff check etl mathlib tests benchmarks examples
	@$(BIN)/ruff format --check etl mathlib tests benchmarks examples
	@$(BIN)/sqlfluff lint --disable-progress-bar sql

types: $(READY)  ## mypy
	@$(BIN)/mypy

fuzz: .venv-fuzz/.ready  ## hostile input for FUZZ_SECONDS, guided by coverage; the table in docs/safety.md
	@.venv-fuzz/bin/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

.venv-fuzz/.ready: pyproject.toml constraints.txt
	$(call install,.venv-fuzz,fuzz)

# ── measurements ────────────────────────────────────────────────────────────
bench: $(READY)  ## the whole pipeline on lakes of SIZES (markets x years, or tiny), an hour, into benchmarks/results
	@$(BIN)/python -m benchmarks.pipeline --date $(DATE) --sizes "$(SIZES)"

bench-math: $(BENCH)/.ready  ## mathlib beside its peers: speed and error, into benchmarks/results
	@$(BENCH)/bin/python -m benchmarks.math --date $(DATE)

bench-sabr: $(READY)  ## which of SVI and SABR is steadier, into benchmarks/results
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.svi_or_sabr

bench-spine: $(READY)  ## point-in-time joins beside DuckDB's, Polars' and pandas' own, into benchmarks/results
	@$(BIN)/python -m benchmarks.spine --date $(DATE)

bench-quality: $(READY)  ## what the checks catch of planted faults, and what they invent, into benchmarks/results
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.quality --date $(DATE)

bench-people: $(READY)  ## from a clone to the first plot, the report, an export of ten million rows
	@$(BIN)/python -m benchmarks.people --date $(DATE)

bench-decode: $(READY)  ## DBN into Parquet beside the vendor's client, speed and memory, into benchmarks/results
	@$(BIN)/python -m benchmarks.decode --date $(DATE)

kill-points: $(READY)  ## every command killed at every change of a file (half an hour, needs cc), into benchmarks/results
	@$(BIN)/python -m benchmarks.kill_points

many-builds: $(READY)  ## eight duckdb sessions and exports beside fifty builds
	@HYDRA_TEST_BUILDS=50 $(BIN)/python -m pytest -q tests/etl/test_writers_and_readers.py

$(BENCH)/.ready: pyproject.toml constraints.txt
	$(call install,$(BENCH),bench)

# ── cleaning up ─────────────────────────────────────────────────────────────
clean:           ## the environments and caches; never the lake
	rm -rf $(VENV) $(BENCH) .venv-fuzz .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info

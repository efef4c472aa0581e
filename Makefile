# `make help` lists what there is. Everything that is installed for Python lies in .venv.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup setup-dev rabbitmq up down test soak check fmt bench
SHELL := /bin/sh

BIN := .venv/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip --quiet --no-input
# More arguments, as in: make up ARGS="--port 9000 --workers 3"; make test ARGS="tests/unit -x"
ARGS ?=

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.has-local rabbitmq ## install what is missing: .venv from the hashed lock, RabbitMQ from Debian

setup-dev: .venv/.has-dev
	-@$(MAKE) --no-print-directory rabbitmq # without it, tests take Docker

up: setup ## run the whole stack on this machine until Ctrl-C
	@$(BIN)/tellerline up $(ARGS)

down: ## stop a stack that runs detached
	@$(BIN)/tellerline down $(ARGS)

test: setup-dev ## every test, in two processes, each with servers of its own
	@$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder $(ARGS)

soak: setup-dev ## what takes too long for every run: tables of five million rows, 100,000 payouts on a faulty network
	@LARGE_TABLE_ROWS=5000000 MIXER_PAYOUTS=100000 $(BIN)/python -m pytest -o faulthandler_timeout=0 \
	  tests/integration/test_statements_at_scale.py tests/integration/test_mixer_soak.py $(ARGS)

check: .venv/.has-dev ## lint, format, types, import contracts, dependencies, house rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports
	@$(BIN)/deptry .
	@$(BIN)/python -m pytest -q tests/test_tidy.py

fmt: .venv/.has-dev ## format and mend what can be mended
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

bench: setup ## a quick measurement beside the baseline
	@$(BIN)/tellerline bench --quick $(ARGS)

rabbitmq:
	@scripts/debian-package.sh rabbitmq-server /usr/lib/rabbitmq/bin/rabbitmq-server \
	  ", or use 'docker compose up --build'"

.venv/bin/python:
	@PYTHON="$(PYTHON)" scripts/make-venv.sh

.venv/.has-local: requirements-local.lock pyproject.toml | .venv/bin/python
	@echo "setup: installing $<"
	@$(PIP) install --require-hashes --requirement $<
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.has-dev: requirements-dev.lock pyproject.toml | .venv/bin/python
	@echo "setup: installing $<"
	@$(PIP) install --require-hashes --requirement $<
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch .venv/.has-local $@

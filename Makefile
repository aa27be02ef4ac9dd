# One file to learn: `make demo` shows the product, `make check` is the whole check, `make help` lists the rest.
PYTHON ?= python3
BIN := .venv/bin
CLOISTER := $(BIN)/cloister
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help setup demo check format lint types unit test kvm soak bench fuzz foreign peers containers pythons clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/' | expand -t 16

# Versions are pinned in constraints.txt; the stamp makes a second run free.
.venv/.installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { \
	  echo "make: '$(PYTHON) -m venv' failed; install python3-venv (apt-get install python3-venv)" >&2; rm -rf .venv; exit 1; }
	@echo "Installing Cloister and its pinned dependencies into .venv ..."
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

setup: .venv/.installed  ## prepare this host: packages, jail, guest kit, root of trust
	@$(CLOISTER) setup

demo: setup  ## run the main job, for real
	@$(CLOISTER) demo

check: format lint types test  ## everything CI runs

format: .venv/.installed
	$(BIN)/ruff format --no-cache --check .

lint: .venv/.installed
	$(BIN)/ruff check --no-cache .

types: .venv/.installed
	$(BIN)/mypy

unit: .venv/.installed  ## the quick tests: no virtual machine
	$(BIN)/pytest -q -m "not vm and not soak"

test: .venv/.installed  ## every test but the soak; enclaves of both architectures are prepared first
	@$(CLOISTER) setup --arch all
	@PYTHONPATH=tests $(BIN)/python -m peers || echo "make: the tests that need these verifiers will be skipped" >&2
	@PYTHONPATH=tests $(BIN)/python -m container_tools || echo "make: the tests that need them will be skipped" >&2
	@PYTHONPATH=tests $(BIN)/python -m reproducible || echo "make: the tests that need it will be skipped" >&2
	$(BIN)/pytest -q -m "not soak"

kvm: setup  ## the VM tests under KVM, in an emulated host that has it; check runs them too
	$(BIN)/pytest -q -s tests/kvm_host

foreign: setup  ## build a kernel like AWS's, for the tests of foreign images (once a host)
	@PYTHONPATH=tests $(BIN)/python -m foreign

test: foreign

peers: .venv/.installed  ## build other people's verifiers, which judge our documents in the tests (once a host)
	@PYTHONPATH=tests $(BIN)/python -m peers

containers: .venv/.installed  ## fetch skopeo, buildah, a registry and a Docker daemon for the tests (once a host)
	@PYTHONPATH=tests $(BIN)/python -m container_tools

pythons: .venv/.installed  ## fetch another release's Python, with which the tests build images too (once a host)
	@PYTHONPATH=tests $(BIN)/python -m reproducible

soak: setup  ## hundreds of enclaves, in sequence, at once, and killed at random moments, counting leftovers
	$(BIN)/pytest -q -m soak -s

bench: setup  ## measure, as ratios against a rival in the same run
	$(BIN)/python bench/run.py

SEED ?= 1
MUTATE := PYTHONPATH=tests $(BIN)/python -m mutations
fuzz: setup  ## hostile bytes against every parser, for an hour; SEED=2 gives other mutations
	$(BIN)/pytest -q -m "not vm and not soak" --hypothesis-profile=long tests/eif tests/cpio tests/cose tests/vhost tests/nsm tests/build
	$(BIN)/pip install -q -c constraints.txt atheris
	PYTHONPATH=tests $(BIN)/python -m fuzzing eif --seconds 600
	PYTHONPATH=tests $(BIN)/python -m fuzzing layers --seconds 600
	$(MUTATE) documents --seed $(SEED) --count 1000000
	$(MUTATE) cached --seed $(SEED) --count 100000
	$(MUTATE) recipients --seed $(SEED) --count 50000
	$(MUTATE) requests --seed $(SEED) --count 100000

clean:  ## remove what make made here (caches and state of cloister setup stay)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis

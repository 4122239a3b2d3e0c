# Everything happens in .venv, which is made when it is missing.
PYTHON ?= python3
BIN := .venv/bin
# An unpinned torch would bring gigabytes of CUDA.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo serve test check crash bench clean

demo: .venv/serve .venv/baseline   ## a tour of at most two minutes on a real model
	$(BIN)/everlong demo

serve: .venv/serve                 ## a server and a page on http://127.0.0.1:8000
	$(BIN)/everlong pull smollm2-135m
	$(BIN)/everlong serve smollm2-135m

test: check                        ## all tests
	$(BIN)/everlong pull smollm2-135m
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal

check: .venv/dev                   ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

crash: .venv/dev                   ## the memory through kills, power cuts, faults and flipped bits: an hour
	$(BIN)/python -m tests.crash

bench: .venv/bench                 ## every inference figure beside its peers
	$(BIN)/everlong pull smollm2-135m
	$(BIN)/python benchmarks/inference.py --json

clean:                             ## remove what was built here
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/base:
	$(PYTHON) -m venv .venv
	touch $@

.venv/serve: .venv/base pyproject.toml constraints.txt
	$(INSTALL) --editable '.[serve]'
	$(BIN)/python -m everlong.model.native.build
	touch $@

# llama.cpp, for the comparison in the demo; the demo goes on without it.
.venv/baseline: .venv/serve
	-$(INSTALL) xllamacpp
	touch $@

.venv/dev: .venv/serve
	$(INSTALL) --editable '.[dev]'
	touch $@

.venv/bench: .venv/serve
	$(INSTALL) --editable '.[bench]'
	touch $@

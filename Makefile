# Each target makes the virtual environment it needs; a stamp file per extra remembers what is installed.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?= -n auto
BENCH_ARGS ?=
N ?= 2000
START ?= 0

.PHONY: test conformance demo bench bench-ops fuzz lint types stubs clean

test: $(VENV)/.dev $(VENV)/.demo
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# PyTorch's own operator database against the operators that nearly every program uses.
conformance: $(VENV)/.dev $(VENV)/.peers
	$(BIN)/python -m pytest $(PYTEST_ARGS) tests/test_opinfo.py

demo: $(VENV)/.demo
	$(BIN)/python examples/digits.py

bench: $(VENV)/.peers
	$(BIN)/python -m benchmarks $(BENCH_ARGS)
	$(BIN)/python -m benchmarks.optimizers

# Every operator by itself against PyTorch's eager one, on about a million elements.
bench-ops: $(VENV)/.peers
	$(BIN)/python -m benchmarks.ops $(BENCH_ARGS)

fuzz: $(VENV)/.dev
	$(BIN)/python -m tests.fuzz.run --programs $(N) --start $(START)

lint: $(VENV)/.dev
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy

# The declarations of operators for type checkers and editors; to run when an operator was added or changed.
stubs: $(VENV)/.dev
	$(BIN)/python -m tools.stubs

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache

$(VENV)/.python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "jtorch needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	touch $@

# $(VENV)/.<extra>: this checkout, editable, with that extra of pyproject.toml.
$(VENV)/.dev $(VENV)/.demo $(VENV)/.peers: $(VENV)/.%: $(VENV)/.python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	touch $@

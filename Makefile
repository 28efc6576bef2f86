# Every command sets up .venv first; that does nothing once it is set up (see tools/setup.py).
#   make run      the main example: a pool evaluates Fibonacci numbers concurrently
#   make test     lint, types, import rules and all tests
#   make spec     the official test suite, with a report (WASM_TESTSUITE=DIR: any checkout of it)
#   make bench    comparison with wasmtime and native code: table, JSON and plot
#   make bench-start  how soon real programs start, beside wasmtime (PROGRAMS="qjs ...": only these)
#   make fuzz     more differential fuzzing than `make test` does (FUZZ_SEEDS=N: how much)
#   make reference  the tables of docs/reference, from the code
#   make load     200,000 calls through a pool whose workers are killed
#   make compile  validation and translation as extension modules: faster, needs a C compiler
#   make test-compiled  the engine's tests and the test suite with these, in a scratch copy
#   make docs     the documentation as a site, with all of the API: build/site/index.html
#   make format   formats the sources
#   make clean    removes .venv, compiled modules and all caches of the project

ifndef PYTHON
PYTHON := $(firstword $(foreach name,python3 python3.11 python3.12 python3.13 python3.14,\
    $(shell $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
        && echo $(name))))
endif
BIN := .venv/bin
CODE := wasmedge_async pool runtime tests examples benchmarks tools docs

.PHONY: run test lint types spec bench bench-start fuzz reference load compile test-compiled \
    docs format clean setup-run setup-dev setup-bench setup-docs require-python

run: setup-run
	$(BIN)/python examples/fibonacci.py

test: lint
	$(BIN)/python -m pytest -n 2

lint: setup-dev
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

spec: setup-dev
	$(BIN)/python -m tests.spec

bench: setup-dev
	$(BIN)/python -m benchmarks

bench-start: setup-bench
	$(BIN)/python -m benchmarks.start $(PROGRAMS)

fuzz: setup-dev
	$(BIN)/python -m tests.differential $(FUZZ_SEEDS)

reference: setup-dev
	$(BIN)/python tools/reference.py

load: setup-dev
	$(BIN)/python -m tests.load

compile: setup-dev
	$(BIN)/python tools/compile.py

test-compiled: setup-dev
	$(BIN)/python tools/test_compiled.py

docs: setup-docs
	$(BIN)/python -m sphinx --quiet --fail-on-warning -b html -d build/doctrees docs build/site

format: setup-dev
	$(BIN)/ruff check --fix-only --quiet $(CODE)
	$(BIN)/ruff format $(CODE)

clean:
	rm -rf .venv .cache build .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache \
	    runtime/wasmedge_runtime/_mypyc runtime/wasmedge_runtime/.mypyc.*

setup-run: require-python
	@$(PYTHON) tools/setup.py

setup-dev: require-python
	@$(PYTHON) tools/setup.py dev

setup-bench: require-python
	@$(PYTHON) tools/setup.py bench

setup-docs: require-python
	@$(PYTHON) tools/setup.py docs

require-python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed (PYTHON=path names one)"; exit 1; }

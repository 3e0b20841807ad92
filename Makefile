# Every target makes and reuses .venv by itself; nothing but Python 3.11+ is needed beforehand
# (`make js`: Node 20.16+ with npm).
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
TORCH  := $(VENV)/.torch
DEMO   ?=

.PHONY: demo test test-bench js lint format bench vectors clean

$(READY): pyproject.toml src/modeltoll/_version.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

$(TORCH): $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[bench,ray]'
	touch $@

demo: $(READY)
	$(BIN)/modeltoll demo $(DEMO)

test: $(READY)
	$(BIN)/python -m pytest -m 'not torch'

test-bench: $(TORCH)
	$(BIN)/python -m pytest -m torch
	rm -rf build/bench-quick
	$(BIN)/modeltoll bench run quick -o build/bench-quick/results --cache build/bench-quick/cache --json build/bench-quick/table.json
	$(BIN)/modeltoll bench report build/bench-quick/results -o build/bench-quick/report

js:
	cd clients/js && npm ci --ignore-scripts --no-audit --no-fund && npm run lint && npm run build && npm test

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	for script in benchmarks/bench_*.py; do \
	  OPENBLAS_NUM_THREADS=1 $(BIN)/python $$script --json results/benchmarks/$$(basename $$script .py).json || exit 1; \
	done

vectors: $(READY)
	$(BIN)/python vectors/make.py

clean:
	rm -rf clients/js/node_modules clients/js/build clients/js/dist
	rm -rf $(VENV) demo-out .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .benchmarks

# Every target does its own set-up: a virtual environment in .venv, made once and again when the
# dependencies change.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo bench test lint types tests docs format clean

demo: $(INSTALLED)  ## the main job on data that ships inside scikit-learn
	$(BIN)/emlc demo

bench: $(INSTALLED)  ## what a step costs on this machine, some minutes
	$(BIN)/emlc bench step --look_ahead '[1]' --meta_gradients '["approximate"]'

test: lint types tests  ## everything that CI checks

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache --no-logo

types: $(INSTALLED)
	$(BIN)/mypy

tests: $(INSTALLED)  ## also builds the documentation, strictly
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadgroup

docs: $(INSTALLED)  ## the documentation, into site/; open site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv runs site .mypy_cache .ruff_cache .pytest_cache

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "emlc needs Python 3.11 or newer; set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

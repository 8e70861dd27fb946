# Every target first makes the virtual environment .venv if it is missing or the dependencies have changed.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo bench test lint types tests faults fuzz docs format clean

demo: $(INSTALLED)  ## train on digits of scikit-learn with wrong labels, and correct them
	$(BIN)/emlc demo

bench: $(INSTALLED)  ## measure what a training step costs on this machine; some minutes
	$(BIN)/emlc bench step --look_ahead '[1]' --meta_gradients '["approximate"]'

test: lint types tests  ## all checks of CI

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache --no-logo

types: $(INSTALLED)
	$(BIN)/mypy

tests: $(INSTALLED)  ## also build the documentation, with warnings as errors
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadgroup

faults: $(INSTALLED)  ## kill commands at every rename, and repeat them; 20 minutes on 2 cores
	OMP_NUM_THREADS=1 $(BIN)/pytest -rP --numprocesses auto --maxprocesses 4 tests/faults.py

fuzz: $(INSTALLED)  ## damage every kind of file that emlc reads, 20,000 times; some hours
	EMLC_FUZZ=20000 OMP_NUM_THREADS=1 $(BIN)/pytest tests/fuzz --numprocesses auto

docs: $(INSTALLED)  ## build the documentation into site/; open site/index.html
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

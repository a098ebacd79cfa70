# make env | demo | test | quick | lint | check | docs. Everything runs in .venv, which `make env` creates.
PYTHON ?= python3
BIN := .venv/bin
TORCH := torch==2.13.0

.PHONY: env dev demo test quick lint check docs clean

env: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt "$(TORCH)"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[encoder,lora]"
	touch $@

dev: .venv/.developing

.venv/.developing: .venv/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

demo: env
	$(BIN)/dataunlearn demo --out runs/demo --overwrite

# One process a core, but for models that need the machine to themselves.
PARALLEL := -n auto --dist loadfile

test: dev
	$(BIN)/python -m pytest $(PARALLEL) -m "not big"
	$(BIN)/python -m pytest -m big

quick: dev
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow and not big"

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

# The documentation as a site, in build/site.
docs: dev
	$(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf .venv runs build dist

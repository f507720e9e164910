# make sweep: set up and run the main sweep.   make test: set up and run the tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: sweep test test-ray lint clean

sweep: $(VENV)/ready
	$(BIN)/python -m runner +sweep=gpu

test: $(VENV)/ready-test
	$(BIN)/python -m pytest

test-ray: $(VENV)/ready-test $(VENV)/ready-ray  # on a real cluster of two nodes, where namespaces can be made
	$(BIN)/python -m pytest -n 0 -m slow -rs tests/test_ray.py

lint: $(VENV)/ready-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/ready-%: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

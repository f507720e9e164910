# make sweep: set up and run the main sweep.   make test: set up and run the tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

EXAMPLE := outputs/example

# What a machine lacks that has Python and torch, but for pandas, which only tables in Python need: for Python 3.11 to
# 3.13 on Linux, those of several files for each.
BUNDLE := .bundle
BUNDLED := hydra-core omegaconf packaging rich markdown-it-py mdurl pygments filelock jinja2 sympy mpmath networkx \
  nvidia-ml-py vl-convert-python
BINARY := pyyaml markupsafe
LINUX := --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux_2_28_x86_64

.PHONY: sweep test test-slow test-exhaustive test-plugins test-next-hydra test-ray test-slurm test-gpu coverage bundle lint docs example clean

sweep: $(VENV)/ready
	$(BIN)/python -m runner +sweep=gpu

test: $(VENV)/ready-test
	$(BIN)/python -m pytest

test-slow: $(VENV)/ready-test  # what takes minutes
	$(BIN)/python -m pytest -m "slow and not exhaustive" --ignore tests/end_to_end/test_ray.py --ignore tests/end_to_end/test_slurm.py

test-exhaustive: $(VENV)/ready-test $(VENV)/ready-opinfo  # what takes more of them
	$(BIN)/python -m pytest -m exhaustive

# What no test reaches, by file and line: of all processes that the tests of `make test` and of MARKERS start.
MARKERS ?= not slow and not exhaustive
coverage: $(VENV)/ready-test $(VENV)/ready-coverage
	-$(BIN)/python -m coverage run -m pytest -m "$(MARKERS)"
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --show-missing

# Hydra's others, Jupyter, readers of CSV, a model of another package.
test-plugins: $(VENV)/ready-test $(VENV)/ready-plugins $(VENV)/ready-notebook $(VENV)/ready-tables $(VENV)/ready-models
	$(BIN)/python -m pytest -m "" -rs tests/end_to_end/test_other_sweepers.py tests/api/test_notebook.py \
	  tests/end_to_end/test_docs.py::test_the_documented_lines_read_results_with_their_types tests/report/test_export.py \
	  tests/end_to_end/test_models.py::test_a_model_of_another_package_is_billed

# With the newest pre-release of Hydra, in an environment that has all else from this one; it may fail.
test-next-hydra: $(VENV)/ready-test
	$(PYTHON) -m venv build/next-hydra
	printf '%s\n' $(CURDIR)/$(VENV)/lib/python3*/site-packages $(CURDIR) $(CURDIR)/runner/api \
	  > $$(echo build/next-hydra/lib/python3*/site-packages)/all.pth
	build/next-hydra/bin/python -m pip install --quiet --pre 'hydra-core>=1.4.0rc0'
	build/next-hydra/bin/python -m pytest -n 2 tests/cli tests/cells tests/config tests/end_to_end/test_hydra_plugins.py

test-ray: $(VENV)/ready-test $(VENV)/ready-ray  # on a real cluster of two nodes, where namespaces can be made
	$(BIN)/python -m pytest -n 0 -m "slow and not exhaustive" -rs tests/end_to_end/test_ray.py

test-slurm: $(VENV)/ready-test $(VENV)/ready-slurm  # on a real Slurm of two nodes, where root has its packages
	$(BIN)/python -m tests.support.slurm_nodes $(BIN)/python -m pytest -n 0 -m slow -rs tests/end_to_end/test_slurm.py

# The first stage on whatever accelerator there is, then the tests that are held against the simulated one; where there
# is none, both say so.
test-gpu: $(VENV)/ready-test $(VENV)/ready-gpu
	$(BIN)/python -m runner.hardware --stage 1
	$(BIN)/python -m pytest -n 0 -m slow -rs -k cuda tests/end_to_end/test_simulated_device.py

# A folder to be carried to a machine without network that has its own torch; docs/accelerators.md says how it is used.
bundle: $(VENV)/ready
	rm -rf $(BUNDLE)
	$(BIN)/python -m pip wheel --quiet --no-deps -c constraints.txt -w $(BUNDLE) . antlr4-python3-runtime==4.9.3
	$(BIN)/python -m pip download --quiet --no-deps -c constraints.txt -d $(BUNDLE) --only-binary :all: $(LINUX) $(BUNDLED)
	for python in 3.11 3.12 3.13; do \
	  $(BIN)/python -m pip download --quiet --no-deps -c constraints.txt -d $(BUNDLE) --only-binary :all: $(LINUX) \
	    --python-version $$python $(BINARY) || exit 1; done
	printf '%s\n' opsweep antlr4-python3-runtime $(BUNDLED) $(BINARY) > $(BUNDLE)/requirements.txt
	du -sh $(BUNDLE)

lint: $(VENV)/ready-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/ready-docs  # as HTML, in docs/_build
	$(BIN)/python docs/reference.py
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs docs/_build

# The report that the README shows: a comparison of dtypes on this machine's CPU, without the folders of its cells and
# without the paths of this machine; what is kept is enough to build the report again.
example: $(VENV)/ready
	rm -rf $(EXAMPLE)
	$(BIN)/python -m runner +sweep=cpu 'hydra.sweeper.also=[]' 'report.baseline={dtype: float32}' \
	  hydra.sweep.dir=$(EXAMPLE)
	find $(EXAMPLE) -mindepth 1 ! -name '*.csv' ! -name environment.json -maxdepth 1 -exec rm -rf {} +
	sed -i 's|$(CURDIR)|.|g; s|$(abspath $(BIN))/||g' $(EXAMPLE)/environment.json
	$(BIN)/python -m runner job=report run=$(EXAMPLE)

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/ready-%: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) build dist docs/_build docs/_pages *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

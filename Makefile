# Two commands from a fresh clone: `make demo` and `make test`. Both make .venv and install everything into it.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

PYTEST := $(BIN)/pytest -n logical --maxprocesses 8 --dist worksteal

.PHONY: demo test test-minimum docs install lint qgis-plugin clean random coverage mutation reliability fuzz audit

demo: install
	$(BIN)/geosynth generate --labels examples/md_lc.tif --out synth.tif --preview --overwrite
	@echo "synth.tif opens in QGIS; synth.png is its preview"

# A process a core (at most 8, each takes 1 to 2 GB); one that has nothing left to do takes tests from the others.
test: install lint
	$(PYTEST)

# The same tests in an order that differs each time, and is told.
random: install
	$(PYTEST) -o addopts="-ra --strict-markers --strict-config"

# Which lines and branches no test enters: htmlcov/index.html.
coverage: install
	$(PYTEST) --cov --cov-report=term:skip-covered --cov-report=html

# Small faults put into the rooms where nobody would see them: which of them no test notices. Hours.
mutation: install
	$(BIN)/mutmut run
	$(BIN)/mutmut results

# Every verb is killed at random moments (10 kills each) and while it tidies up, and goes without disk, folder, memory and
# open files. A quarter of an hour.
reliability: install
	GEOSYNTH_TRIALS=10 $(PYTEST) -o faulthandler_timeout=1500 tests/reliability

# Mutated files (5,400) of every kind that users bring. A quarter of an hour.
fuzz: install
	GEOSYNTH_FUZZ=300 $(PYTEST) -o faulthandler_timeout=1500 tests/fuzz

# Known holes in what is installed; asks the advisory service of PyPI, and fails where that does not answer.
audit: install
	$(BIN)/pip freeze --exclude-editable > .audit.txt
	$(BIN)/pip-audit --strict --disable-pip --no-deps --requirement .audit.txt

# The oldest versions that pyproject.toml allows, and the tests that lean on them most. What old ones ask of newer ones
# that is to go is no fault of ours.
MINIMUM := build/minimum/bin
test-minimum:
	$(PYTHON) -m venv --clear build/minimum
	$(MINIMUM)/python -m pip install --quiet uv
	$(MINIMUM)/uv pip install --quiet --python build/minimum --resolution lowest-direct --editable '.[dev,remote]'
	$(MINIMUM)/python -m pytest -n logical --maxprocesses 8 -W ignore::DeprecationWarning \
		-W ignore::PendingDeprecationWarning tests/grid tests/patches tests/raster tests/test_checkpoint.py \
		tests/test_describe.py tests/test_download.py tests/test_loop.py tests/mosaic/test_generate.py

# The site, build/docs/index.html; a warning is an error. Needs no network.
docs: install
	$(BIN)/sphinx-build -W --keep-going -q docs build/docs
	@echo "build/docs/index.html"

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

qgis-plugin: install
	$(BIN)/python qgis/package.py

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info synth.tif synth.png htmlcov .coverage .audit.txt mutants

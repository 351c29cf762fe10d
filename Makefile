# Two commands from a fresh clone: `make demo` and `make test`. Both make .venv and install everything into it.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

PYTEST := $(BIN)/pytest -n logical --maxprocesses 8 --dist worksteal

.PHONY: demo test test-minimum docs install lint qgis-plugin clean random coverage mutation reliability fuzz audit

demo: install
	$(BIN)/geosynth generate --labels examples/md_lc.tif --out synth.tif --preview --overwrite
	@echo "synth.tif opens in QGIS; synth.png is its preview"

# One process per core (at most 8, each takes 1 to 2 GB); idle ones take over tests from the others.
test: install lint
	$(PYTEST)

# The same tests in an order that differs each time; the order's seed is printed.
random: install
	$(PYTEST) -o addopts="-ra --strict-markers --strict-config"

# Lines and branches that no test reaches: htmlcov/index.html.
coverage: install
	$(PYTEST) --cov --cov-report=term:skip-covered --cov-report=html

# Finds small faults, put into the code, that no test notices. Takes hours.
mutation: install
	$(BIN)/mutmut run
	$(BIN)/mutmut results

# Kills every command at random moments (10 times each) and while it cleans up, and runs it without disk space, folder,
# memory and open files. Takes a quarter of an hour.
reliability: install
	GEOSYNTH_TRIALS=10 $(PYTEST) -o faulthandler_timeout=1500 tests/reliability

# Reads 5,400 mutated files of every kind that users supply. Takes a quarter of an hour.
fuzz: install
	GEOSYNTH_FUZZ=300 $(PYTEST) -o faulthandler_timeout=1500 tests/fuzz

# Known vulnerabilities in installed packages; asks the advisory service of PyPI, and fails if that does not answer.
audit: install
	$(BIN)/pip freeze --exclude-editable > .audit.txt
	$(BIN)/pip-audit --strict --disable-pip --no-deps --requirement .audit.txt

# The tests that depend most on other libraries, with the oldest versions that pyproject.toml allows. Deprecation
# warnings are ignored, as old libraries use what newer ones deprecate.
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

# Two commands from a fresh clone: `make demo` and `make test`. Both make .venv and install everything into it.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-minimum docs install lint qgis-plugin clean

demo: install
	$(BIN)/geosynth generate --labels examples/md_lc.tif --out synth.tif --preview --overwrite
	@echo "synth.tif opens in QGIS; synth.png is its preview"

# A process a core (at most 8, each takes 1 to 2 GB); one that has nothing left to do takes tests from the others.
test: install lint
	$(BIN)/pytest -n logical --maxprocesses 8 --dist worksteal

# The oldest versions that pyproject.toml allows, and the tests that lean on them most.
MINIMUM := build/minimum/bin
test-minimum:
	$(PYTHON) -m venv --clear build/minimum
	$(MINIMUM)/python -m pip install --quiet uv
	$(MINIMUM)/uv pip install --quiet --python build/minimum --resolution lowest-direct --editable '.[dev,remote]'
	$(MINIMUM)/python -m pytest -n logical --maxprocesses 8 tests/grid tests/patches tests/raster tests/test_checkpoint.py \
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
	rm -rf $(VENV) build dist *.egg-info synth.tif synth.png

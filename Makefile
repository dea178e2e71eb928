# Needs Python 3.11 or newer, git and make; everything else goes into .venv.
PYTHON ?= python3
STUDY ?= quickstart
BIN := .venv/bin

.PHONY: study test quick bench calibrate soak notebook setup ui clean

study: .venv/installed  ## run a study: make study STUDY=init_vs_act
	$(BIN)/searchlib optimize --study $(STUDY)

test: .venv/installed-dev  ## lint, types, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

quick: .venv/installed-dev  ## the tests that need no store, server or long training: about a minute
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal -m "not slow" --ignore tests/whole

bench: .venv/installed-bench  ## how fast it is, against other ways; takes hours on a quiet machine
	$(BIN)/python -m benchmarks

calibrate: .venv/installed  ## the statistics: synthetic studies, then whole ones on real trainings; an hour
	$(BIN)/python -m benchmarks.calibration
	$(BIN)/python -m benchmarks.across
	$(BIN)/python -m benchmarks.racing
	$(BIN)/python -m benchmarks.extending
	$(BIN)/searchlib data fetch fashion_mnist
	$(BIN)/python -m benchmarks.reproducibility

soak: .venv/installed  ## half an hour of kills: nothing may be lost
	$(BIN)/python -m benchmarks.soak

ui: .venv/installed  ## both dashboards
	$(BIN)/searchlib ui

notebook: .venv/installed-dev  ## run docs/notebook.ipynb and store it with its outputs
	$(BIN)/python docs/execute_notebook.py

setup: .venv/installed

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

.venv/installed-bench: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[bench]' || echo "no Ray Tune here: its row will say so"
	touch $@

clean:  ## remove the environment and caches; results and data stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info

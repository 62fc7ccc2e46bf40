# Two commands: `make run` starts the studio, `make test` checks it. Both set up what they need in .venv first.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
ARGS   ?=

.PHONY: run test check setup setup-dev clean

run: setup
	$(BIN)/python app.py $(ARGS)

test: setup-dev check
	$(BIN)/python -m pytest $(ARGS)

check: setup-dev
	$(BIN)/ruff check .
	$(BIN)/mypy

setup: $(VENV)/.app
setup-dev: $(VENV)/.dev

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "The studio needs Python 3.11 or newer. Install it, or name one: make run PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "Python's venv module is missing. On Debian and Ubuntu: sudo apt install python3-venv"; rm -rf $(VENV); exit 1; }

$(VENV)/.app: $(BIN)/python requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -r requirements.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.app requirements-dev.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -r requirements-dev.txt
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

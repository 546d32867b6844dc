# Two commands do everything: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Everything that is installed, so that a changed list is installed anew.
INPUTS := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test check models bench clean

help:  ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/ready: $(INPUTS)
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "Vermilion needs Python 3.11 to 3.13, not %d.%d: make PYTHON=python3.12 demo" % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt pip
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt --progress-bar on -e '.[speech,chinese,film,safety,drawings]'
	@touch $@

$(VENV)/ready-dev: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[speech,chinese,film,safety,drawings,train,dev]'
	@touch $@

models: $(VENV)/ready  ## Fetch the default models (176 MB, once)
	@$(BIN)/vermilion models pull

demo: models  ## Make a finished set from examples/briefs/coffee.toml, and check its seals
	@$(BIN)/vermilion make examples/briefs/coffee.toml --out out/demo --overwrite
	@$(BIN)/vermilion verify out/demo
	@echo "look at it in a browser: $(CURDIR)/out/demo/index.html"

test: $(VENV)/ready-dev models  ## Run the tests
	$(BIN)/python -m pytest

check: $(VENV)/ready-dev  ## Formatter, linter, strict types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/ready-dev models  ## Time start, load, first word and speech
	$(BIN)/python benchmarks/start.py

clean:  ## Remove the virtual environment; models and library stay
	rm -rf $(VENV)

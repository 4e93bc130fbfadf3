PYTHON ?= python3
# Exact versions; `make setup CONSTRAINTS=/dev/null` takes the newest.
CONSTRAINTS ?= constraints.txt
# The address of a package index to take torch from, for example the one with torch's CPU builds.
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEVELOPED := $(VENV)/.developed

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format release-check

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(DEVELOPED) ## create .venv with all extras and developer tools

demo: $(INSTALLED) ## train, export, verify, serve and play CartPole; about a minute
	$(BIN)/trpo-deploy demo

test: lint ## run lint and the whole test suite
	$(BIN)/pytest --numprocesses auto --dist loadfile

lint: $(DEVELOPED) ## check style, types and import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEVELOPED) ## format the code and fix lint errors where possible
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

release-check: ## build sdist and wheel, install each in fresh environments and use it
	scripts/release-check

# Runs again when the requirements or the compiled module change. pip leaves a
# torch that TORCH_INDEX has brought; without it, torch comes from the usual index: see docs/installation.md.
$(INSTALLED): pyproject.toml constraints.txt setup.py trpo_deploy/train/mlp/_step_compiled.pyx
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "trpo-deploy needs Python 3.10 or newer; choose one with: make PYTHON=python3.11" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --quiet --no-deps --constraint $(CONSTRAINTS) \
		--index-url $(TORCH_INDEX) torch)
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[all]'
	@touch $@

$(DEVELOPED): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --group dev
	@touch $@

PYTHON ?= python3
# Exact versions; `make setup CONSTRAINTS=/dev/null` takes the newest.
CONSTRAINTS ?= constraints.txt
# The address of a package index to take torch from, for example the one with torch's CPU builds.
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEVELOPED := $(VENV)/.developed
PIP_INSTALL := scripts/pip-install $(BIN)/python

.DEFAULT_GOAL := help
.PHONY: help setup demo page docs test lint format release-check

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(DEVELOPED) ## create .venv with all extras and developer tools

demo: $(INSTALLED) ## train, export, verify, serve and play CartPole; about a minute
	$(BIN)/trpo-deploy demo

page: $(INSTALLED) ## build the page with walking robots into build/page; needs npm
	$(BIN)/python scripts/build-page

# The package is compiled once, for the hundreds of processes that tests start. numpy's BLAS has no other
# threads here, which would wait for work in a loop: a tenth of the processor time.
test: lint ## run lint and the whole test suite
	$(BIN)/python -m compileall -q -j 0 trpo_deploy
	OPENBLAS_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist loadfile

lint: $(DEVELOPED) ## check style, types and import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(DEVELOPED) $(if $(shell command -v npm),page) ## build the documentation site into build/site
	rm -rf build/site
	$(BIN)/sphinx-build --fail-on-warning --quiet --doctree-dir build/doctrees docs build/site
	test ! -d build/page || cp -R build/page build/site/live

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
	@$(PIP_INSTALL) --upgrade 'pip>=25.1'
	@$(if $(TORCH_INDEX),$(PIP_INSTALL) --no-deps --constraint $(CONSTRAINTS) --index-url $(TORCH_INDEX) torch)
	@$(PIP_INSTALL) --constraint $(CONSTRAINTS) --editable '.[all]'
	@touch $@

$(DEVELOPED): $(INSTALLED)
	@$(PIP_INSTALL) --constraint $(CONSTRAINTS) --group dev
	@touch $@

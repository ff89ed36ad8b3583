# FastDINO pipelines. `make` alone lists what there is.

PYTHON ?= python3
PORT ?= 3000
VENV := .venv
BIN := $(VENV)/bin
# Touched after each installation, so that it is repeated only when what it depends on changes.
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
INSTALLED_BROWSER := $(VENV)/.installed-browser
INSTALLED_CLUSTER := $(VENV)/.installed-cluster
# What checks the page's scripts, where Node is.
CHECKS := tests/page/checks
INSTALLED_NODE := $(CHECKS)/node_modules/.installed

.DEFAULT_GOAL := help
.PHONY: help run report ui test thorough test-browser check check-page bench constraints clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile
	@printf '\nAnother interpreter: make run PYTHON=python3.12\n'
	@printf 'Shorter training:    FASTDINO_MINUTES=1 make run (or set it in .env)\n'

# The names of folders go through the environment, whatever is in them: make would take a $ in what it
# is given for a variable of its own.
ifdef MUSIC
override MUSIC := $(value MUSIC)
export MUSIC
endif
run: $(INSTALLED) ## the whole pipeline on MUSIC=~/Music (several: MUSIC=a:b), as last time, or on a demo library
	$(BIN)/python -m fastdino run --or-demo $${MUSIC:+"$$MUSIC"}

report: $(INSTALLED) ## bring the page up to date and open it, with sound, until Ctrl-C
	$(BIN)/python -m fastdino report
	$(BIN)/python -m fastdino serve --open

# Told to end, make tells its own child alone, which therefore becomes Dagster itself.
ui: $(INSTALLED) ## the same in Dagster, on http://127.0.0.1:3000 (or PORT=...)
	@$(BIN)/python -m fastdino settings > /dev/null
	@$(BIN)/python -c 'import socket, sys; socket.create_server(("127.0.0.1", int(sys.argv[1]))).close()' \
		"$(PORT)" 2> /dev/null || { echo "Port $(PORT) is taken. If by another make ui, use that" \
		"one; if not, choose another port, as make ui PORT=3001" >&2; exit 1; }
	@DAGSTER_HOME="$(CURDIR)" PYTHONWARNINGS='ignore:Function `dev_command` is superseded' \
		exec $(BIN)/python -m pipelines.start $(BIN)/dagster dev -w workspace.yaml -h 127.0.0.1 -p $(PORT)

test: $(INSTALLED_DEV) ## run the tests, as many at once as there are cores
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

thorough: $(INSTALLED_CLUSTER) ## run all tests, those of many minutes and on a Ray cluster too
	$(BIN)/python -m pytest -m "not browser"

# PICTURE=docs/page.png also takes a picture, of the collection under FASTDINO_HOME if that is set.
test-browser: $(INSTALLED_BROWSER) ## open the page in a real Chromium (CHROMIUM=... if it is elsewhere)
	$(BIN)/python -m pytest -m browser -n auto --maxprocesses 4 --dist loadgroup $(if $(PICTURE),--picture "$(PICTURE)")

check: $(INSTALLED_DEV) ## lint, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@if command -v npm > /dev/null && $(MAKE) --no-print-directory $(INSTALLED_NODE); \
		then $(MAKE) --no-print-directory check-page; \
		else echo "No Node here, or nothing to install with it: the page's scripts are not checked"; fi

# The page's scripts as the Python: types, lint. What checks them stays out of what is shipped.
check-page: $(INSTALLED_NODE)
	$(CHECKS)/node_modules/.bin/tsc -p $(CHECKS)
	$(CHECKS)/node_modules/.bin/biome lint --error-on-warnings --config-path $(CHECKS) fastdino/page/web

bench: $(INSTALLED) ## measure speed and memory
	$(BIN)/python -m fastdino bench

constraints: ## resolve every dependency anew and write constraints.txt
	rm -rf build/constraints
	$(PYTHON) -m venv build/constraints
	build/constraints/bin/python -m pip install --quiet '.[dev,browser,cluster,s3]'
	{ sed -n '/^#/p' constraints.txt; \
		build/constraints/bin/python -m pip freeze --exclude fastdino-pipelines; } > build/constraints.txt
	mv build/constraints.txt constraints.txt
	rm -rf build/constraints

clean: ## remove the environment and caches; results under var/ stay
	rm -rf $(VENV) $(CHECKS)/node_modules build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find assets fastdino pipelines tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The last thing that is put there: an environment without it was interrupted.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "This needs Python 3.11 or later, and $(PYTHON) is not (or is missing)."; \
		echo "If you have one under another name: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/pip
	@echo "Installing into $(VENV); the first time this downloads a few GB and takes minutes."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(INSTALLED_NODE): $(CHECKS)/package.json
	npm install --silent --no-audit --no-fund --no-package-lock --prefix $(CHECKS)
	@touch $@

$(INSTALLED_DEV): pyproject.toml constraints.txt | $(BIN)/pip
	@echo "Installing into $(VENV); the first time this downloads a few GB and takes minutes."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ $(INSTALLED)

$(INSTALLED_CLUSTER): $(INSTALLED_DEV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,cluster,s3]'
	@touch $@

$(INSTALLED_BROWSER): $(INSTALLED_DEV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,browser]'
	@touch $@

# Every command makes .venv first if it is not there. PYTHON=... chooses a Python.
.PHONY: help reports test test-faults test-browser bench evidence verify tables notebooks lab check lock clean

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
# uv installs in a minute what takes pip two.
UV := $(shell command -v uv)
INSTALL = $(if $(UV),uv pip install -q --python $(BIN)/python,$(BIN)/python -m pip \
	install -q --disable-pip-version-check) -c constraints.txt
INSTALLED := .venv/.installed
OVERRIDES := .venv/share/jupyter/lab/settings/overrides.json
NO_NEWS := {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}
NPM := $(shell command -v npm)
# Containers often have no other user.
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)
STRIP := metadata.language_info cell.metadata.execution cell.metadata.papermill

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1:/p' Makefile

reports: $(INSTALLED)  ## execute all notebooks on the committed runs, write build/site
	$(BIN)/python run_all.py

test: $(INSTALLED)  ## run the tests, no network needed
	@# By name: xdist would begin with many short tests, and end with a few long ones.
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder \
		-m "not faults and not browser and not tutorial"

test-faults: $(INSTALLED)  ## kill and interrupt builds at many moments: a quarter hour
	$(BIN)/python -m pytest -q tests/test_faults.py tests/test_reuse.py \
		tests/test_execute.py tests/test_cluster.py

test-browser: $(INSTALLED)  ## site, JupyterLab and tutorial for real: ten minutes
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
		{ test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
		&& apt-get install -qq -y chromium >/dev/null; } || \
		{ echo "test-browser needs Chromium: on Debian and Ubuntu," \
		"sudo apt-get install chromium"; exit 1; }
	$(INSTALL) -e '.[dev,browser]'
	$(BIN)/python -m pytest -q -m "browser or tutorial" tests/test_browser.py \
		tests/test_docs.py tests/test_touch.py

bench: $(INSTALLED)  ## time against plain notebooks: an hour; BENCH=short ten minutes
	$(BIN)/python benchmarks/bench.py $(if $(filter short,$(BENCH)),--short)

evidence: $(INSTALLED)  ## train the full runs that results/ still lacks: hours
	nice $(BIN)/python -m reports.evidence train

verify: $(INSTALLED)  ## train first epochs of N=5 committed runs again, compare hashes
	$(BIN)/python -m reports.evidence verify --count $(or $(N),5)

tables: $(INSTALLED)  ## write the README's tables from results/
	$(BIN)/python -m reports.evidence tables

notebooks: $(INSTALLED)  ## copy the cells that families share from mlp.ipynb and conv2.ipynb
	$(BIN)/python -m reports.notebooks

lab: $(INSTALLED)  ## open JupyterLab on the notebooks
	$(BIN)/jupyter lab --ip=127.0.0.1 --notebook-dir=notebooks $(AS_ROOT)

check: $(INSTALLED) $(if $(NPM),node_modules/typescript)  ## lint, formatting, types, JavaScript too; no outputs in notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/nbstripout --verify --keep-id --extra-keys "$(STRIP)" notebooks/*.ipynb
	$(if $(NPM),npx tsc -p jsconfig.json,@echo "The site's JavaScript is not checked:" \
		"npm is not here (on Debian and Ubuntu, apt install npm).")

node_modules/typescript: package.json
	npm install --silent --no-audit --no-fund && touch $@

lock:  ## write constraints.txt anew; take the oldest PYTHON, so that all can have them
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install -q -e '.[dev,browser]'
	(sed -n 1p constraints.txt; .venv-lock/bin/pip freeze --exclude-editable \
		| sed 's/ @ .*//') > constraints.new && mv constraints.new constraints.txt
	rm -rf .venv-lock

clean:  ## remove the virtual environment and the build
	rm -rf .venv build

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "mnistlab needs Python 3.11, 3.12 or 3.13:" \
		"install one, or name it: make PYTHON=/path/to/python3.12"; exit 1; }
	@test -n "$(UV)" || $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no" \
		"venv module: install it (on Debian and Ubuntu: apt install python3-venv)"; exit 1; }
	$(if $(UV),uv venv -q --clear --python $(PYTHON) .venv,$(PYTHON) -m venv .venv)
	$(INSTALL) -e '.[dev]'
	@# JupyterLab would ask on its first start whether to look for news.
	@mkdir -p $(dir $(OVERRIDES)) && echo '$(NO_NEWS)' > $(OVERRIDES)
	@# Outputs that JupyterLab saves do not reach git: the filter of .gitattributes.
	@# Not those of a repository around this folder.
	@if test -e .git && git rev-parse --git-dir >/dev/null 2>&1; then \
		git config filter.nbstripout.clean \
			".venv/bin/nbstripout --keep-id --extra-keys '$(STRIP)'" && \
		git config filter.nbstripout.smudge cat; fi
	@touch $@

# Everything is installed in .venv, once; delete it (make clean) to begin again.
# Without make: python3 -m venv .venv ; .venv/bin/python -m pip install -r requirements.txt -e .
# then .venv/bin/workbench lab, or .venv/bin/python tests/all.py

# PYTHON=  makes .venv (3.10 or newer)          PORT=  of JupyterLab on 127.0.0.1
# OPEN=no  prints the address, opens nothing    STEPS= only these steps of the tests
# WHAT=    is measured by make bench; all of it takes some twenty minutes
PYTHON = python3
PORT = 8888
OPEN = yes
STEPS =
PEERS = workbench/bench/peers/requirements.txt
WHAT = import sliders cache mlm-head vocabulary-loss peers grid

# What the installation was made from, and where: one that differs is made again.
# cksum, as it is on every system.
KEY = "$$(cat requirements.txt pyproject.toml | cksum) $$(pwd)"

.PHONY: lab test bench pictures clean install

lab: install
	@echo "==> starting JupyterLab on notebooks/00_start_here.ipynb"
	@if [ "$(OPEN)" = no ]; then set -- --no-open; fi; \
	  exec .venv/bin/workbench lab --port "$(PORT)" "$$@"

test: install
	@echo "==> running the tests"
	@.venv/bin/python tests/all.py $(STEPS)

# TextBrewer gets an environment of its own, so that the workbench never depends on it.
bench: install
	@if [ "$$(cat .venv-peers/made-from 2>/dev/null)" != "$$(cksum <$(PEERS))" ]; then \
	  echo "==> making .venv-peers for the tools that the workbench is measured against"; \
	  .venv/bin/python -m venv --clear .venv-peers && \
	  .venv-peers/bin/python -m pip install --disable-pip-version-check --quiet -r $(PEERS) || exit 1; \
	  cksum <$(PEERS) >.venv-peers/made-from; \
	fi
	@for what in $(WHAT); do \
	  echo "==> workbench bench $$what"; \
	  .venv/bin/workbench bench $$what || exit 1; \
	done

pictures: install
	@.venv/bin/python tests/browser/pictures.py

clean:
	@echo "==> removing .venv and what builds and tests left behind"
	@rm -rf .venv .venv-peers build workbench.egg-info .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

install:
	@if [ -x .venv/bin/python ] && [ "$$(cat .venv/made-from 2>/dev/null)" = $(KEY) ]; then \
	  echo "==> .venv is up to date"; \
	  exit 0; \
	fi; \
	command -v "$(PYTHON)" >/dev/null || { \
	  echo "make: there is no '$(PYTHON)' here: install Python 3.10 or newer, or name one, as in: make PYTHON=/path/to/python3" >&2; \
	  exit 1; }; \
	"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "make: '$(PYTHON)' is $$("$(PYTHON)" -V 2>&1), and the workbench needs Python 3.10 or newer: name one, as in: make PYTHON=python3.12" >&2; \
	  exit 1; }; \
	if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then \
	  echo "==> making .venv with $$("$(PYTHON)" -V)"; \
	  "$(PYTHON)" -m venv --clear .venv || { rm -rf .venv; \
	    echo "make: '$(PYTHON)' cannot make a virtual environment: see above (on Debian: apt install python3-venv)" >&2; \
	    exit 1; }; \
	fi; \
	echo "==> installing requirements.txt and the workbench in .venv (minutes the first time)"; \
	[ -t 1 ] || set -- --quiet; \
	.venv/bin/python -m pip install --disable-pip-version-check "$$@" -r requirements.txt -e . || { \
	  echo "make: pip could not install everything: see above (it needs a network and 3 GB of disk); make goes on from here" >&2; \
	  exit 1; }; \
	echo $(KEY) >.venv/made-from

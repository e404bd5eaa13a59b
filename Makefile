# make app    the explorer, in a browser          make test   lint, tests and every notebook, strictly compared
# make lab    the course, in JupyterLab           make notebooks [NAMES=01_forward]   write and execute the notebooks
#
# They need python3 (3.11 or newer), make and a package index; everything goes into .venv.
# Another Python: make app PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
# Idle threads of torch sleep rather than spin: on a machine that does other work too, that is several times faster.
export OMP_WAIT_POLICY ?= PASSIVE
PY := $(VENV)/bin/python
PIP_INSTALL := $(PY) -m pip --disable-pip-version-check install -c constraints.txt
# Two workers with one thread each are quicker than one with two; a file's tests, and a notebook's cells, stay together.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -n 2
NBVAL := --nbval --nbval-current-env --nbval-cell-timeout=600 --nbval-kernel-startup-timeout=600 --nbval-sanitize-with tests/notebooks/sanitize.cfg

.PHONY: app lab test lint notebooks clean

app: $(VENV)/.installed
	$(VENV)/bin/diffusion-explained app

lab: $(VENV)/.installed
	$(VENV)/bin/diffusion-explained lab

test: lint
	$(PYTEST) --dist loadfile
	HF_HUB_OFFLINE=1 $(PYTEST) --dist loadscope $(NBVAL) notebooks

lint: $(VENV)/.installed-test
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

notebooks: $(VENV)/.installed-test
	$(PY) notebooks/execute.py $(NAMES)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written only after a whole install, so an interrupted one is taken up again, and a changed
# pyproject.toml or constraints.txt installs anew.
$(VENV)/.installed: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing into $(VENV); the first time takes a few minutes."
	$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing into $(VENV), with what the tests need; the first time takes a few minutes."
	$(PIP_INSTALL) -e '.[test]'
	@touch $(VENV)/.installed $@

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found. Install Python 3.11 or newer, or name one: make app PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), and 3.11 or newer is needed. Name one: make app PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv module. On Debian and Ubuntu: sudo apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

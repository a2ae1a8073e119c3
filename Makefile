# `make demo` and `make test` do everything on a fresh machine; the rest is for developers.
VENV ?= .venv
TORCH ?= cpu
BIN := $(VENV)/bin
FOLDERS := graphs simulator placement envs agent

.PHONY: demo test test-slow lint constraints clean

demo: $(VENV)/.complete
	$(BIN)/graphwright place inception-v3 --cluster 4xv100-pcie --budget 20s --out out/demo

test: $(VENV)/.complete
	$(BIN)/python -m pytest

test-slow: $(VENV)/.complete
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.complete
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

constraints: $(VENV)/.complete
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu//' > constraints.txt

$(VENV)/.complete: pyproject.toml constraints.txt scripts/set_up.sh
	scripts/set_up.sh $(VENV) $(TORCH)

clean:
	rm -rf $(VENV) out

# `make demo` and `make test` do everything on a fresh machine; the rest is for developers.
VENV ?= .venv
TORCH ?= cpu
BIN := $(VENV)/bin
STAMP := $(shell date +%Y%m%d-%H%M%S)

.PHONY: install demo test test-slow format lint docs lock clean

# An ONNX model that comes with the onnx package; any other does as well.
MODEL = $(shell $(BIN)/python -c "import onnx, pathlib; print(pathlib.Path(onnx.__file__).parent / 'backend/test/data/light/light_resnet50.onnx')")

# The command is then $(VENV)/bin/graphwright.
install: $(VENV)/.complete

demo: $(VENV)/.complete
	$(BIN)/graphwright place inception-v3 --cluster 4xv100-pcie --budget 20s --out out/demo/plan
	$(BIN)/graphwright train --rounds 12 --max-ops 800 --validate-every 12 --validation-graphs 6 \
	  --threads 1 --out out/demo/train-$(STAMP) --track wandb
	$(BIN)/graphwright finetune $(MODEL) --cluster 4xp100-pcie --policy out/demo/train-$(STAMP) \
	  --updates 10 --budget 20s --out out/demo/finetune-$(STAMP) --track wandb
	$(BIN)/graphwright evaluate --policy out/demo/train-$(STAMP) --suite test-families --limit 3 \
	  --budget 3s --seeds 0 --only portfolio search untrained zero-shot \
	  --out out/demo/evaluate-$(STAMP) --track wandb

test: $(VENV)/.complete
	$(BIN)/python -m pytest

test-slow: $(VENV)/.complete
	$(BIN)/python -m pytest -m slow

format: $(VENV)/.complete
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(VENV)/.complete
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The site, in out/site; a broken link ends it (not with --quiet, which hides warnings from --strict).
docs: $(VENV)/.complete
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Locks what is installed: versions, hashes and licences.
lock:
	$(BIN)/python -m scripts.lock

$(VENV)/.complete: pyproject.toml constraints.txt requirements.lock scripts/set_up.sh
	scripts/set_up.sh $(VENV) $(TORCH)

clean:
	rm -rf $(VENV) out

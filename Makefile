# make demo    distill the digits from start to end, then say where to look
# make test    the test suite
# make install what both do first: a virtual environment in .venv with everything in it
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test lint

install: $(STAMP)

# constraints.txt pins torch. Where pip would choose a CUDA build on a machine without a GPU, name the index of PyTorch's
# CPU wheels: make install TORCH_INDEX=URL
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c constraints.txt -e '.[test]'
	touch $@

demo: install
	$(BIN)/stillhouse demo

test: install lint
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check
	$(BIN)/lint-imports

# make demo    distill the digits from start to end, then say where to look
# make check   the tests that need no Ray, S3 server or browser and are quick: 7 minutes on 2 cores
# make test    all tests: 21 minutes on 2 cores
# make nightly  what takes longer: a run that is stopped by each signal, and killed
# make audit  a bill of materials (dist/sbom.json), and which packages have known vulnerabilities; needs a network
# make gallery builds docs/gallery from runs of the store (RUNS="..."; else all of them); at most 8 MB
# make install what these do first: a virtual environment in .venv with everything in it
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
AUDIT := .venv-audit

.PHONY: install demo check test nightly audit lint gallery

install: $(STAMP)

# constraints.txt pins torch. Where pip would choose a CUDA build on a machine without a GPU, name the index of PyTorch's
# CPU wheels: make install TORCH_INDEX=URL
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c constraints.txt -e '.[test]'
	touch $@

demo: install
	$(BIN)/stillhouse demo

check: install lint
	$(BIN)/python -m pytest -m "not ray and not s3 and not browser and not slow"

test: install lint
	$(BIN)/python -m pytest

# Without a network the audit says that it knows nothing, and the tests run.
nightly: install dist/packages.txt
	$(AUDIT)/bin/python infra/audit.py dist/packages.txt --sbom dist/sbom.json --offline-ok
	$(BIN)/python -m pytest -m nightly

audit: dist/packages.txt
	$(AUDIT)/bin/python infra/audit.py dist/packages.txt --sbom dist/sbom.json

dist/packages.txt: $(STAMP) $(AUDIT)/.installed
	mkdir -p dist
	$(BIN)/pip freeze --exclude-editable > $@

$(AUDIT)/.installed:
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/pip install -q pip-audit==2.10.1 cyclonedx-bom==7.5.0
	touch $@

lint: install
	$(BIN)/ruff check
	$(BIN)/lint-imports

gallery: install
	$(BIN)/stillhouse gallery $(RUNS) --out docs/gallery --steps 24 --real 0 --no-downloads --title "Stillhouse: distilled datasets"
	@test $$(du -sk docs/gallery | cut -f1) -le 8192 || { echo "docs/gallery is larger than 8 MB: name fewer RUNS"; exit 1; }

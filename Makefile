# `make` alone prints the targets.
PYTHON ?= python3
VENV ?= .venv
ifneq ($(words $(VENV)),1)
$(error VENV=$(VENV): make cannot handle a space in it; name another folder)
endif
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
DEVELOPED = $(VENV)/.installed-dev
# Bytecode is compiled once: where Python may not write it, each process would compile torch again for 18 s.
UV = UV_COMPILE_BYTECODE=1 VIRTUAL_ENV="$(abspath $(VENV))" $(BIN)/uv
LOCK = --upgrade
COMPILE = $(UV) pip compile $(LOCK) --universal --python-version 3.10 --generate-hashes --no-header \
  --annotation-style line --quiet
SAMPLE = data/raw/sample
export PATH := $(abspath $(BIN)):$(PATH)
export DATASET_FOLDER = $(value DATASET)

help:  ## print this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

repro: $(INSTALLED)  ## install and run the whole pipeline (DATASET=folder: on your images; FORMAT=voc if two fit)
ifeq ($(origin DATASET),command line)
	@python tools/add_dataset.py "$$DATASET_FOLDER" $(if $(FORMAT),--format $(FORMAT))
endif
	@! grep -qsE '^  dataset: +$(SAMPLE)( |$$)' params.yaml || test -d $(SAMPLE) || $(MAKE) --no-print-directory $(SAMPLE)
	dvc repro
	@python tools/summary.py

# A file's tests share what is slow to make. In the order of the files, since those with the fewest tests take longest.
TWO_PROCESSES = --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: $(DEVELOPED)  ## run the tests
	OMP_NUM_THREADS=1 python -m pytest $(TWO_PROCESSES) -m "not long"

test-long: $(DEVELOPED)  ## run all of them, the long ones too
	OMP_NUM_THREADS=1 python -m pytest $(TWO_PROCESSES)

test-gpu: $(DEVELOPED)  ## run the tests that need a GPU; without one they are skipped
	python -m pytest -rs -W default tests/gpu

coverage: $(DEVELOPED)  ## run the tests and print how much of the code they cover
	OMP_NUM_THREADS=1 python -m pytest $(TWO_PROCESSES) -m "not long" --cov --cov-report=term:skip-covered

check: $(DEVELOPED)  ## ruff, mypy and the other checks of .pre-commit-config.yaml
	pre-commit run --all-files --show-diff-on-failure

docs: $(INSTALLED)  ## write the generated pages of docs/
	python tools/generate_docs.py

bench: $(DEVELOPED)  ## measure this machine: the table in docs/speed.md
	python -m benchmarks.speed

bench-accuracy: $(DEVELOPED)  ## measure accuracy and training time next to YOLO (DATASETS="folder folder ...")
	python -m benchmarks.accuracy $(DATASETS)

bench-scale: $(DEVELOPED)  ## measure the stages on 10,000 to 1,000,000 images
	python -m benchmarks.scale

bench-export: $(DEVELOPED)  ## measure the exported files next to PyTorch and YOLO11n, and in int8
	python -m benchmarks.export

bench-service: $(DEVELOPED)  ## measure what the service costs on top of its model (60 s, 32 clients)
	python -m benchmarks.service

bench-gpu: $(INSTALLED)  ## measure a GPU in 8 minutes: every model, precision and way of loading data (docs/speed.md)
	python -m benchmarks.gpu

install: $(INSTALLED)  ## make the virtual environment (VENV=folder to use another)

install-dev: $(DEVELOPED)  ## add what tests and development need

loggers: $(INSTALLED)  ## add TensorBoard, Weights & Biases and MLflow, for `loggers` of machine.yaml
	$(UV) pip install -r requirements-loggers.txt

lock: $(DEVELOPED)  ## compile pyproject.toml to the locks, with the newest releases (LOCK= to keep those there)
	$(COMPILE) pyproject.toml --extra sweep --extra serve --extra dev -o requirements-dev.txt
	$(COMPILE) pyproject.toml --extra sweep --extra serve -c requirements-dev.txt -o requirements.txt
	$(COMPILE) pyproject.toml --extra loggers -c requirements.txt -o requirements-loggers.txt
	$(COMPILE) requirements-serve.in -c requirements.txt -o requirements-serve.txt
	$(UV) pip install --quiet -r requirements-dev.txt
	python tools/versions.py

$(INSTALLED): requirements.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet "$$(grep -oE '^uv==[^ ]+' requirements-dev.txt)"
	$(UV) pip install -r requirements.txt
	$(UV) pip install --no-deps --editable .
	@touch $@

$(DEVELOPED): $(INSTALLED) requirements-dev.txt
	$(UV) pip install -r requirements-dev.txt
	@touch $@

$(SAMPLE):
	python tools/sample_data.py --out $(SAMPLE)
	dvc add --quiet $(SAMPLE)

.PHONY: help repro test test-long test-gpu coverage check docs install install-dev loggers lock bench bench-accuracy bench-export \
  bench-gpu bench-scale bench-service

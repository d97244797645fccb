# `make` alone prints the targets.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
DEVELOPED = $(VENV)/.installed-dev
UV = VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv
LOCK = --upgrade
COMPILE = $(UV) pip compile $(LOCK) --universal --python-version 3.10 --generate-hashes --no-header \
  --annotation-style line --quiet
SAMPLE = data/raw/sample
DATASET ?= data/raw/bccd_voc
FORMAT ?= voc
export PATH := $(abspath $(BIN)):$(PATH)

help:  ## print this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

repro: $(INSTALLED) $(SAMPLE)  ## from raw images to a verified ONNX file: install, make the sample, dvc repro
	dvc repro
	@python tools/summary.py

test: $(DEVELOPED)  ## run the tests: about 9 minutes on 2 cores
	OMP_NUM_THREADS=1 python -m pytest --numprocesses 2 --dist loadfile -m "not long"

test-long: $(DEVELOPED)  ## run all of them, the long ones too
	OMP_NUM_THREADS=1 python -m pytest --numprocesses 2 --dist loadfile

check: $(DEVELOPED)  ## ruff, mypy and the other pre-commit checks
	pre-commit run --all-files

bench: $(DEVELOPED)  ## measure this machine: the table in the README
	python -m benchmarks.speed

bench-labels: $(DEVELOPED)  ## measure how many planted label errors are found
	python -m benchmarks.label_errors

bench-accuracy: $(DEVELOPED)  ## measure accuracy for its time beside YOLO11n (DATASET=folder, FORMAT=voc)
	python -m benchmarks.accuracy $(DATASET) --format $(FORMAT)

bench-evaluation: $(DEVELOPED)  ## measure whether the intervals and the comparison can be trusted, and their speed
	python -m benchmarks.uncertainty

bench-scale: $(DEVELOPED)  ## measure split and coco-convert on a million images, and DVC on 20,000 as files and as shards
	python -m benchmarks.scale
	python -m benchmarks.many_files

bench-export: $(DEVELOPED)  ## measure the exported files: beside PyTorch, in 8 bits, beside YOLO11n, in use
	python -m benchmarks.export

bench-service: $(DEVELOPED)  ## measure what the service costs beside its model (60 s of 32 clients)
	python -m benchmarks.service

install: $(INSTALLED)  ## make the virtual environment (VENV=folder to use another)

install-dev: $(DEVELOPED)  ## add what tests and development need

loggers: $(INSTALLED)  ## add TensorBoard, Weights & Biases and MLflow, for train.loggers
	$(UV) pip install -r requirements-loggers.txt

lock: $(DEVELOPED)  ## compile pyproject.toml to the locks, with the newest releases (LOCK= to keep those there)
	$(COMPILE) pyproject.toml --extra sweep --extra serve --extra dev -o requirements-dev.txt
	$(COMPILE) pyproject.toml --extra sweep --extra serve -c requirements-dev.txt -o requirements.txt
	$(COMPILE) pyproject.toml --extra loggers -c requirements.txt -o requirements-loggers.txt
	$(COMPILE) requirements-serve.in -c requirements.txt -o requirements-serve.txt

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

.PHONY: help repro test test-long check bench bench-accuracy bench-evaluation bench-labels bench-scale install mirrors lock bench-service bench-export

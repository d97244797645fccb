# `make` alone prints the targets.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
SAMPLE = data/raw/sample
DATASET ?= data/raw/bccd_voc
FORMAT ?= voc
export PATH := $(abspath $(BIN)):$(PATH)

help:  ## print this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

repro: $(INSTALLED) $(SAMPLE)  ## from raw images to a verified ONNX file: install, make the sample, dvc repro
	dvc repro
	@python tools/summary.py

test: $(INSTALLED)  ## run the tests: about 9 minutes on 2 cores
	OMP_NUM_THREADS=1 python -m pytest --numprocesses 2 --dist loadfile -m "not long"

test-long: $(INSTALLED)  ## run all of them, the long ones too
	OMP_NUM_THREADS=1 python -m pytest --numprocesses 2 --dist loadfile

check: $(INSTALLED)  ## ruff, mypy and the other pre-commit checks
	pre-commit run --all-files

bench: $(INSTALLED)  ## measure this machine: the table in the README
	python -m benchmarks.speed

bench-labels: $(INSTALLED)  ## measure how many planted label errors are found
	python -m benchmarks.label_errors

bench-accuracy: $(INSTALLED)  ## measure accuracy for its time beside YOLO11n (DATASET=folder, FORMAT=voc)
	python -m benchmarks.accuracy $(DATASET) --format $(FORMAT)

bench-evaluation: $(INSTALLED)  ## measure whether the intervals and the comparison can be trusted, and their speed
	python -m benchmarks.uncertainty

bench-scale: $(INSTALLED)  ## measure split and coco-convert on a million images, and DVC on 20,000 as files and as shards
	python -m benchmarks.scale
	python -m benchmarks.many_files

bench-export: $(INSTALLED)  ## measure the exported files: beside PyTorch, in 8 bits, beside YOLO11n, in use
	python -m benchmarks.export

bench-service: $(INSTALLED)  ## measure what the service costs beside its model (60 s of 32 clients)
	python -m benchmarks.service

install: $(INSTALLED)  ## make the virtual environment (VENV=folder to use another)

mirrors: $(INSTALLED)  ## install TensorBoard, Weights & Biases and MLflow, for train.mirrors
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install -r requirements-mirrors.txt

lock: $(INSTALLED)  ## compile requirements.in to requirements.txt
	uv pip compile --upgrade --universal --python-version 3.10 --no-header --annotation-style line \
	  --quiet requirements.in -o requirements.txt
	uv pip compile --upgrade --universal --python-version 3.10 --no-header --annotation-style line \
	  --quiet requirements-mirrors.in -o requirements-mirrors.txt
	uv pip compile --upgrade --universal --python-version 3.10 --no-header --annotation-style line \
	  --quiet requirements-serve.in -o requirements-serve.txt

$(INSTALLED): requirements.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet "$$(grep -oE '^uv==[^ ]+' requirements.txt)"
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install -r requirements.txt
	@touch $@

$(SAMPLE):
	python tools/sample_data.py --out $(SAMPLE)
	dvc add --quiet $(SAMPLE)

.PHONY: help repro test test-long check bench bench-accuracy bench-evaluation bench-labels bench-scale install mirrors lock bench-service bench-export

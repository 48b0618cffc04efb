# make demo     install into .venv, train and evaluate a small model with EPL, show results and pictures
# make test     install into .venv, run the whole test suite
# make integrations  install what the scripts in examples/ need into .venv, and run them
# make mutation break the lines that join the parts, one at a time, and show that a test notices
# make fuzz     20,000 drawn inputs for the losses
# make torture  kill trainings, take their disk and their partners, feed them damaged files (docs/reliability.md)
# make evidence  print the tables of docs/evidence.md from the counts in docs/evidence
# make gpu-report  everything about EPL on this machine's GPU, in output/gpu_report (docs/performance.md)
# make lint     ruff
# make types    mypy on the public names
# make dist     source archive and wheel in dist/
# make site     the documentation as a site in output/site, by a generator in .venv-docs
# make clean    remove what these build: the environments, packages and the site; trainings in output/ stay
#
# PYTHON=python3.12           interpreter of a new .venv (3.10 to 3.12)
# REPORT='--device cpu'       options of tools/gpu_report.py
# DETECTRON2='git+https://...'  another Detectron2 than the pinned wheel: any requirement that pip takes

PYTHON ?= python3
VENV ?= .venv
DETECTRON2 ?=

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DOCS_VENV := .venv-docs

DEMO_ENV := DETECTRON2_DATASETS=datasets

.PHONY: install demo test evidence integrations mutation fuzz torture gpu-report lint types dist site clean FORCE

install: $(INSTALLED)

# Finished installations leave the stamp with the DETECTRON2 they were made for; anything else is installed again.
$(INSTALLED): requirements/base.txt requirements/detectron2.txt setup.py $(if $(filter-out $(shell cat $(INSTALLED) 2>/dev/null),detectron2=$(DETECTRON2)),FORCE)
	sh requirements/install.sh '$(PYTHON)' '$(VENV)' '$(DETECTRON2)'
	@echo 'detectron2=$(DETECTRON2)' > $@

demo: $(INSTALLED)
	$(DEMO_ENV) $(BIN)/python datasets/prepare_shapes.py
	$(DEMO_ENV) $(BIN)/python demo/run_shapes.py --output output/shapes_demo

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

evidence: $(INSTALLED)
	PYTHON=$(BIN)/python sh docs/evidence/tables.sh

integrations: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-warn-conflicts \
		--constraint requirements/base.txt --requirement requirements/integrations.txt
	set -e; for script in segmentation_models transformers_segformer torchvision_deeplab lightning_module mmsegmentation_registry; do \
		echo "examples/$$script.py"; $(BIN)/python -W ignore examples/$$script.py; done

mutation: $(INSTALLED)
	$(BIN)/python -W ignore tests/mutation/run.py

fuzz: $(INSTALLED)
	FUZZ_DRAWS=20000 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 tests/losses/test_fuzz.py

torture: $(INSTALLED)
	$(BIN)/python -W ignore tests/torture/run.py

gpu-report: $(INSTALLED)
	$(BIN)/python tools/gpu_report.py $(REPORT)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

dist: $(INSTALLED)
	rm -rf build dist
	$(BIN)/python -m build --no-isolation

# --strict: a link or an anchor that leads nowhere ends it.
site: $(DOCS_VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict
	@echo 'open output/site/index.html'

$(DOCS_VENV)/.installed: requirements/docs.txt
	'$(PYTHON)' -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements/docs.txt
	@touch $@

# Of output/ the site alone: the rest are trainings.
clean:
	rm -rf $(VENV) $(DOCS_VENV) output/site build dist *.egg-info .mypy_cache

FORCE:

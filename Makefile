# Two commands for a stranger: `make demo` and `make test`. Both set themselves up and reuse what is there.
PYTHON ?= python3
VENV ?= .venv
DEMO_MODELS ?= nuclei mushrooms granular facade people
# TORCH=cpu: PyTorch without CUDA, about 1 GB in place of 6; the address is the one that pytorch.org names
TORCH ?= default
CPU_WHEELS := https://download.pytorch.org/whl/cpu
KILLS ?= 200

BIN := $(VENV)/bin
# A worker for each core, with one thread each: two workers end in about half the time of one
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal
PIP := $(BIN)/python -m pip --disable-pip-version-check
PACKAGE := $(VENV)/.condinst-package
DEVELOPER := $(VENV)/.condinst-developer
RIVALS := $(VENV)/.condinst-bench

ifeq ($(TORCH),cpu)
TORCH_FIRST = $(PIP) install --index-url $(CPU_WHEELS) $$(grep -E '^torch(vision)?==' constraints.txt)
else
TORCH_FIRST = @:
endif

.DEFAULT_GOAL := help
.PHONY: help demo test check variants quality lint kill format docs bench recipes fuzz constraints clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(PACKAGE)  ## segment the sample images with the shipped models; pictures and results.json go to demo/
	@set -e; for model in $(DEMO_MODELS); do \
		$(BIN)/condinst predict examples/images/$$model --model $$model --out demo/$$model --overwrite; \
	done
	@printf '\nPictures and results.json: '; for model in $(DEMO_MODELS); do printf '%s/demo/%s  ' "$(CURDIR)" "$$model"; done; echo

test: lint  ## lint, types and all tests
	$(PYTEST)

variants: $(DEVELOPER)  ## compare the further published models of the family with their recorded numbers
	$(PYTEST) -m variant

quality: $(DEVELOPER)  ## train small models until they know a picture by heart, from masks and from boxes alone
	$(PYTEST) -m quality

kill: $(DEVELOPER)  ## kill training and predicting KILLS times each at random moments (200 unless given), resume, compare
	OMP_NUM_THREADS=1 ACCELERATE_USE_CPU=true $(BIN)/python -m benchmarks.survival.kill_training --kills $(KILLS)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.survival.kill_predict --kills $(KILLS)

check: lint  ## lint, types and the fast tests
	$(PYTEST) -m "not slow and not quality and not variant" -x -q

lint: $(DEVELOPER)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEVELOPER)  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(DEVELOPER)  ## build the documentation site into site/
	$(BIN)/python -m tools.reference
	$(BIN)/python -m zensical build --clean --strict

bench: $(RIVALS)  ## time and memory beside the published way and other programs; writes benchmarks/results/ and docs/explanation/speed.md
	@set -e; for name in stages scaling training_step rivals family startup; do $(BIN)/python -m benchmarks.speed.$$name; done; \
		for name in stages training_step rivals family; do $(BIN)/python -m benchmarks.speed.$$name --keep-pages; done
	$(BIN)/python -m benchmarks.export.speed
	$(BIN)/python -m benchmarks.export.speed --keep-pages
	$(BIN)/python -m benchmarks.speed.page.write

recipes: $(DEVELOPER)  ## export the model of every recipe, with random weights, and run the programs (10 minutes)
	$(BIN)/python -m benchmarks.export.recipes

fuzz: $(DEVELOPER)  ## try 10,000 damaged files, each within 10 s and 1 GB; those at fault go to fuzz-faults/
	$(BIN)/python -m benchmarks.fuzz --count 10000

constraints: $(DEVELOPER)  ## write the versions of this environment to constraints.txt
	@{ sed -n '/^#/p' constraints.txt; $(PIP) freeze --all --exclude pip --exclude-editable; } > constraints.txt.new
	@mv constraints.txt.new constraints.txt

clean:  ## remove the environment, the demo's pictures and the caches
	rm -rf $(VENV) demo dist build site .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "condinst needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.11 …" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

# The stamps are what lets a second run start at once: pip runs again only after these two files change.
$(PACKAGE): pyproject.toml constraints.txt | $(BIN)/python
	$(TORCH_FIRST)
	$(PIP) install -c constraints.txt -e .
	@touch $@

$(DEVELOPER): pyproject.toml constraints.txt | $(BIN)/python
	$(TORCH_FIRST)
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $(PACKAGE) $@

$(RIVALS): pyproject.toml constraints.txt | $(BIN)/python
	$(TORCH_FIRST)
	$(PIP) install -c constraints.txt -e '.[bench]'
	@touch $(PACKAGE) $@

# Everything that is typed here can be typed by hand as well; `make` alone lists it.

# Interpreters to try, in this order. Hydra 1.3 sets the range: see requires-python in pyproject.toml.
PYTHON ?= python3 python3.13 python3.12 python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
UNFINISHED := $(VENV)/unfinished
KERNELS := .kernels
DOCS := .docs
# The python that is named on the command line, else that of .venv, else the one there is.
GPU_PYTHON = $(if $(filter command,$(firstword $(origin PYTHON))),$(PYTHON),$(or $(wildcard $(BIN)/python),python3))
# Where `make site` reads: your own records, or those that are kept in git.
store ?= $(if $(wildcard results/records/*.jsonl),results,build/kept)

.DEFAULT_GOAL := help
.PHONY: help setup bench smoke showcase pictures report regress perf selftest speed rates \
  bench-scale site docs calibrate verify proofs pages cheats torture readme test test-slow test-browser bench-page \
  studies-pages test-gpu kernels test-kernels launches gpu gpu-page check format lint type clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## create .venv and install everything; other targets run this when needed

bench: $(READY) ## measure the default suite, causal and bidirectional, and build the leaderboard in results/
	$(BIN)/python -m bench.sweep experiment=suite

smoke: $(READY) ## a sweep of a few seconds that checks the installation
	$(BIN)/python -m bench.sweep experiment=smoke

showcase: ## replace the records of docs/results/ by those of results/, and rebuild the leaderboard there
	mkdir -p docs/results
	cat results/records/*.jsonl | gzip -9n > docs/results/records.jsonl.gz
	$(MAKE) pictures

pictures: $(READY) ## redraw README's charts and docs/results/ from the records stored there
	rm -rf build/pictures docs/results/charts
	mkdir -p build/pictures/records
	gunzip -c docs/results/records.jsonl.gz > build/pictures/records/showcase.jsonl
	$(BIN)/python -m bench.report out=build/pictures
	cp -r build/pictures/leaderboard.md build/pictures/table.csv build/pictures/charts docs/results/
	rm -f docs/results/charts/*.vl.json

report: $(READY) ## rebuild tables and charts from the records in results/
	$(BIN)/python -m bench.report

site: $(READY) ## build a static site in build/site from results/, or from docs/results/
	rm -rf build/site
	mkdir -p build/kept/records
	gunzip -c docs/results/records.jsonl.gz > build/kept/records/showcase.jsonl
	@echo "Records of $(if $(filter build/kept,$(store)),docs/results/records.jsonl.gz,$(store)/records/)"
	$(BIN)/python -m bench.report out=$(store) site=build/site \
	  $(if $(DOCS_SOURCE),docs=docs source=$(DOCS_SOURCE))

docs: $(DOCS)/ready ## build the documentation in build/docs
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs build --strict --quiet
	@echo "Wrote build/docs/index.html"

regress: $(READY) ## fail if this commit is slower than its parent, or than main
	$(BIN)/python -m bench.regress

perf: $(READY) ## time every mechanism with pytest-benchmark: make perf [rows=nala] [fail=median:10%]
	$(BIN)/python -m pytest tests/perf --benchmark-only --benchmark-autosave $(if $(rows),-k "$(rows)") \
	  $(if $(fail),--benchmark-compare --benchmark-compare-fail=$(fail))


rates: $(READY) ## search learning rates for the rows and tasks of make bench; writes conf/rates/
	$(BIN)/python -m bench.rates

bench-scale: $(READY) ## time planning, leasing and resuming of 1,000 to 100,000 made-up cells
	$(BIN)/python -m tools.scale

calibrate: $(READY) ## measure this machine's peak rates, so that sweeps can show a share of them
	$(BIN)/python -m bench.calibrate

selftest: $(READY) ## measure the error rates of the regression gate, an hour; writes docs/selftest.md
	$(BIN)/python -m bench.selftest

speed: $(READY) ## ours vs the authors' operators, compiled vs eager, half an hour; writes docs/speed.md
	$(BIN)/python -m bench.sweep experiment=published out=results/speed/published
	$(BIN)/python -m bench.sweep experiment=published scope=layer 'attention=[softmax,flatten_layer,mlla,polaformer_pp]' out=results/speed/published
	$(BIN)/python -m bench.sweep experiment=compiled out=results/speed/compiled
	$(BIN)/python -m bench.publishing.speed results/speed docs/speed.md

verify: $(READY) ## compare the mechanisms with their authors' numbers
	$(BIN)/python -m bench.verify

proofs: $(READY) ## test what changed since results/proofs.jsonl, and keep it there; force=true tests all
	$(BIN)/python -m bench.verify keep=true $(if $(force),force=$(force))

pages: $(READY) ## write the pages of docs/ that are generated from docstrings and counts
	$(BIN)/python -m bench.studies.catalogue.pages
	$(BIN)/python -m bench.models
	$(BIN)/python -m bench.reproduce page=true
	$(BIN)/python -m tools.studies_pages advice

studies-pages: $(READY) ## write the pages of docs/ that follow from stored records; check=true compares
	$(BIN)/python -m tools.studies_pages $(if $(check),check=$(check))

readme: $(READY) ## put the numbers of docs/results/ into README.md, after a page was made again
	$(BIN)/python -m tools.readme_numbers --write

cheats: $(READY) ## time mechanisms that cheat on purpose and show how each is caught
	$(BIN)/python -m tests.cheats

torture: $(READY) ## an hour of kills, concurrent sweeps, full disks and bad input; writes docs/reliability.md
	$(BIN)/python -m tests.torture

test: $(READY) ## run the tests
	$(BIN)/python -m pytest -m "not slow and not gpu and not browser" -n auto --maxprocesses 4 --dist loadfile

test-slow: $(READY) ## run the slow tests
	$(BIN)/python -m pytest -m "slow and not gpu"

test-browser: $(READY) ## test the leaderboard page in Chromium; screenshots in results/page/
	ATTNBENCH_PICTURES=results/page $(BIN)/python -m pytest -m browser

bench-page: $(READY) ## measure the leaderboard page at 100,000 records; writes results/bench-page.json
	$(BIN)/python tools/bench_page.py

test-gpu: $(READY) ## run the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

kernels: $(KERNELS)/ready ## install other packages' GPU kernels in .kernels (1 GB)

test-kernels: $(KERNELS)/ready ## compare these kernels with ours on the CPU, and check what is said of them
	TRITON_INTERPRET=1 PYTHONPATH=$(KERNELS) $(BIN)/python -m pytest \
	  tests/attentions/adapters/test_kernels_of_others.py tests/bench/studies/launches/test_noting.py

launches: $(KERNELS)/ready ## list the GPU launches of adapters, without a GPU; writes docs/results/launches.md
	$(BIN)/python -m bench.launches card=[h100,a100] seq_len=[1024,65536] mode=forward_backward \
	  configs=[gla_fla,gated_deltanet_fla] page=true

gpu: ## on a machine with a card, 18 minutes: make gpu [PYTHON=…] [wheels=DIR] [dry_run=true]
	$(GPU_PYTHON) -m tools.gpu $(if $(wheels),wheels=$(wheels)) $(if $(dry_run),dry_run=$(dry_run))

gpu-page: ## write docs/results/gpu.md from results/gpu-CARD/
	$(GPU_PYTHON) -m tools.gpu page=true

check: lint type test ## everything a change must pass: lint, type, test

format: $(READY) ## format the code with ruff
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .

lint: $(READY) ## check format and lint with ruff, and the contracts on imports
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/lint-imports

type: $(READY) ## mypy --strict on bench and attentions
	$(BIN)/python -m mypy

clean: ## remove caches and build products; results/, .benchmarks and .venv stay
	rm -rf build dist *.egg-info
	rm -rf $(KERNELS) $(DOCS) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find attentions bench conf tests -type d -name __pycache__ -prune -exec rm -rf {} +

# Setting up. A name on the path may be a version manager's shim that starts nothing, so each
# candidate is run, not looked up. `unfinished` lies in .venv until pip is through, then becomes
# `ready`: an interrupted setup is thus started afresh, and a .venv made by hand is kept.
SUPPORTED = import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
define MAKE_VENV
for python in $(PYTHON); do \
  if $$python -c '$(SUPPORTED)' 2>/dev/null; then \
    echo "$$python -m venv --clear $(VENV)"; exec $$python -m venv --clear $(VENV); \
  fi; \
done; \
echo "attnbench needs Python 3.11, 3.12 or 3.13, and none of these is one: $(PYTHON)." \
  "Install one, or name it: make setup PYTHON=/path/to/python3.12" >&2; \
exit 1
endef

$(READY): pyproject.toml
	@if [ -e $(UNFINISHED) ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then $(MAKE_VENV); fi
	@touch $(UNFINISHED)
	$(BIN)/python -m pip install -e '.[dev,charts]'
	@mv $(UNFINISHED) $(READY)

# The documentation is built from text, in an environment of its own: its thirty packages would make
# every start of a measuring Python a little slower, and it needs none of what .venv has.
EXTRA = import tomllib; \
  extra = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"]; \
  print(*extra, sep="\n")
$(DOCS)/ready: pyproject.toml
	@if ! $(DOCS)/bin/python -m pip --version >/dev/null 2>&1; then $(subst $(VENV),$(DOCS),$(MAKE_VENV)); fi
	@$(DOCS)/bin/python -c '$(EXTRA)' > $(DOCS)/packages
	@$(DOCS)/bin/python -m pip install --quiet -r $(DOCS)/packages || { \
	  echo "make docs needs the packages of the extra docs in pyproject.toml, and pip could not" \
	    "get them: connect to a network once, and run it again." >&2; exit 1; }
	@touch $(DOCS)/ready

# Packages that would not install where no CUDA is, or would bring a torch of their own, lie apart,
# where only `make test-kernels` finds them. flash-attn comes without its compiled part.
$(KERNELS)/ready: $(READY)
	rm -rf $(KERNELS)
	$(BIN)/python -m pip install --no-deps --target $(KERNELS) \
	  triton==3.9.0 einops fla-core==0.6.0 flash-linear-attention==0.6.0 xformers
	FLASH_ATTENTION_FORCE_BUILD=TRUE FLASH_ATTENTION_SKIP_CUDA_BUILD=TRUE $(BIN)/python -m pip \
	  install --no-deps --no-build-isolation --target $(KERNELS) flash-attn
	@touch $(KERNELS)/ready

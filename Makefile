# Everything that is typed here can be typed by hand as well; `make` alone lists it.

# Interpreters to try, in this order. Hydra 1.3 sets the range: see requires-python in pyproject.toml.
PYTHON ?= python3 python3.13 python3.12 python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
UNFINISHED := $(VENV)/unfinished
KERNELS := .kernels
budget ?= 10m
# Where `make site` reads: your own records, or those that are kept in git.
store ?= $(if $(wildcard results/records/*.jsonl),results,build/kept)

.DEFAULT_GOAL := help
.PHONY: help setup bench smoke showcase pictures report regress baseline perf selftest speed rates \
  bench-tasks bench-scale site calibrate verify pages cheats torture test test-slow test-browser bench-page \
  test-gpu test-kernels check format lint type clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv and install everything into it; every target that needs it does this first

bench: $(READY) ## measure the default suite and leave a leaderboard in results/
	$(BIN)/python -m bench.sweep experiment=suite

smoke: $(READY) ## a sweep of seconds, to see that everything works here
	$(BIN)/python -m bench.sweep experiment=smoke

showcase: ## keep the records of results/ in git, under docs/results/, and the leaderboard made of them
	mkdir -p docs/results
	cat results/records/*.jsonl | gzip -9n > docs/results/records.jsonl.gz
	$(MAKE) pictures

pictures: $(READY) ## draw the pictures of README, and the leaderboard of docs/results/, again from the records kept there
	rm -rf build/pictures docs/results/charts
	mkdir -p build/pictures/records
	gunzip -c docs/results/records.jsonl.gz > build/pictures/records/showcase.jsonl
	$(BIN)/python -m bench.report out=build/pictures
	cp -r build/pictures/leaderboard.md build/pictures/table.csv build/pictures/charts docs/results/
	rm -f docs/results/charts/*.vl.json

report: $(READY) ## write the tables and pictures again, from the records in results/
	$(BIN)/python -m bench.report

site: $(READY) ## pages for static hosting in build/site, of results/ or else of the kept leaderboard
	rm -rf build/site
	mkdir -p build/kept/records
	gunzip -c docs/results/records.jsonl.gz > build/kept/records/showcase.jsonl
	$(BIN)/python -m bench.report out=$(store) site=build/site

regress: $(READY) ## is this commit slower than the one before it, or than main? fails if so
	$(BIN)/python -m bench.regress

baseline: $(READY) ## measure, and add this machine's numbers to results/baselines/
	$(BIN)/python -m bench.regress store=true

perf: $(READY) ## every mechanism under pytest-benchmark, stored for pytest-benchmark compare
	$(BIN)/python -m pytest tests/perf --benchmark-only --benchmark-autosave

rates: $(READY) ## search learning rates for the rows of make bench, 40 minutes; into conf/rates/
	$(BIN)/python -m bench.rates

bench-tasks: $(READY) ## the best table of tasks that a time buys: make bench-tasks budget=10m
	$(BIN)/python -m bench.rates.race budget=$(budget)

bench-scale: $(READY) ## do planning, claiming and resuming scale? 1,000 to 100,000 cells, made up
	$(BIN)/python -m tools.scale

calibrate: $(READY) ## what this machine can do at best; sweeps then say how near a mechanism comes
	$(BIN)/python -m bench.calibrate

selftest: $(READY) ## how often the regression gate is wrong here, in an hour; into docs/selftest.md
	$(BIN)/python -m bench.selftest

speed: $(READY) ## half an hour: ours over their authors' operators, compiled over eager; into docs/speed.md
	$(BIN)/python -m bench.sweep experiment=published out=results/speed/published
	$(BIN)/python -m bench.sweep experiment=published scope=layer 'attention=[softmax,flatten_layer,mlla,polaformer_pp]' out=results/speed/published
	$(BIN)/python -m bench.sweep experiment=compiled out=results/speed/compiled
	$(BIN)/python -m bench.publish.speed results/speed docs/speed.md

verify: $(READY) ## prove the mechanisms against their authors' numbers
	$(BIN)/python -m bench.verify

pages: $(READY) ## write the pages of docs/ that are made from docstrings and from counts
	$(BIN)/python -m bench.catalogue.pages
	$(BIN)/python -m bench.models
	$(BIN)/python -m bench.reproduce page=true

cheats: $(READY) ## mechanisms that cheat on purpose: what becomes of each, and of its neighbour
	$(BIN)/python -m tests.cheats

torture: $(READY) ## an hour of kills, crowds, full disks, malformed words, damaged stores; into docs/reliability.md
	$(BIN)/python -m tests.torture

test: $(READY) ## the ordinary tests
	$(BIN)/python -m pytest -m "not slow and not gpu and not browser" -n auto --maxprocesses 4 --dist loadfile

test-slow: $(READY) ## the tests that take long
	$(BIN)/python -m pytest -m "slow and not gpu"

test-browser: $(READY) ## the leaderboard's page in a real Chromium; pictures of it into results/page/
	ATTNBENCH_PICTURES=results/page $(BIN)/python -m pytest -m browser

bench-page: $(READY) ## size and speed of the leaderboard's page at 100,000 records; into results/bench-page.json
	$(BIN)/python tools/bench_page.py

test-gpu: $(READY) ## the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

test-kernels: $(KERNELS)/ready ## other packages' CUDA kernels on a processor, beside ours (1 GB)
	TRITON_INTERPRET=1 PYTHONPATH=$(KERNELS) $(BIN)/python -m pytest tests/attentions/adapters/test_kernels_of_others.py

check: lint type test ## all that a change must pass

format: $(READY) ## put the code into its one format
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .

lint: $(READY) ## is the code in its format, and free of what ruff finds?
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .

type: $(READY) ## mypy --strict on bench and attentions
	$(BIN)/python -m mypy

clean: ## remove caches and build products; results/ and .venv stay
	rm -rf build dist *.egg-info
	rm -rf $(KERNELS) .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
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

# Packages that would not install where no CUDA is, or would bring a torch of their own, lie apart,
# where only `make test-kernels` finds them. flash-attn comes without its compiled part.
$(KERNELS)/ready: $(READY)
	rm -rf $(KERNELS)
	$(BIN)/python -m pip install --no-deps --target $(KERNELS) \
	  triton einops fla-core flash-linear-attention xformers
	FLASH_ATTENTION_FORCE_BUILD=TRUE FLASH_ATTENTION_SKIP_CUDA_BUILD=TRUE $(BIN)/python -m pip \
	  install --no-deps --no-build-isolation --target $(KERNELS) flash-attn
	@touch $(KERNELS)/ready

# Needs Python 3.11-3.13 and make. `make help` lists what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV_VERSION := 0.13.9
# Two processes, each with a JVM and a node of its own: tests wait for those as often as they compute. A file stays in one, for its
# fixtures; the order is as it stands in, in which what takes longest (acceptance, faults) comes early.
REAL := -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup demo dev test soak check types layers unit bench-backfill bench-pit bench-publish bench-refresh bench-serving bench-skew bench-windows clean lock

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(READY) ## install everything into .venv, as requirements.txt pins it

$(READY): requirements.txt pyproject.toml
	@echo "Setting up $(VENV) (a few minutes the first time)"
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info < (3, 14); sys.exit(0 if ok else "Python 3.11 to 3.13 is needed, this is " + sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python requirements.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@$(BIN)/penstock jars prepare
	@touch $(READY)

demo: $(READY) ## the whole path on real flights, once; ends everything (NOW=..., DAYS=30)
	@$(BIN)/python -m jobs.demo $(if $(NOW),--now $(NOW)) $(if $(DAYS),--days $(DAYS))

dev: $(READY) ## leave it running: Dagster UI, gateway, live flights; Ctrl-C stops everything
	@$(BIN)/penstock dev

test: check ## every promise at small counts, on real Spark, Delta, Cassandra and Dagster
	@$(BIN)/python -m pytest tests -m real $(REAL)

soak: check ## the same tests at full counts: 10 + 10 killed runs, and 200 kills of all there is (three hours)
	@PENSTOCK_KILLS=10 PENSTOCK_CHAOS=200 PENSTOCK_REQUESTS=10000 $(BIN)/python -m pytest tests -m real $(REAL)

check: $(READY) ## the fast part: formatting, types, layers, unit tests
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(MAKE) --no-print-directory --jobs=2 types layers unit

types: $(READY)
	@$(BIN)/mypy --no-error-summary

layers: $(READY)
	@$(BIN)/lint-imports --no-cache > $(VENV)/layers.txt || { cat $(VENV)/layers.txt; exit 1; }

unit: $(READY)
	@$(BIN)/python -m pytest tests -m "not real" -n 2 --dist worksteal

bench-backfill: $(READY) ## a year of the flight views as one run, beside the bare computation and an empty run; what statistics add
	@$(BIN)/python -m benchmarks.backfill.run
	@$(BIN)/python -m benchmarks.backfill.statistics_of_days

bench-pit: $(READY) ## point-in-time joins side by side with Feast, Spark, DuckDB and polars (SETS=main,flights,keys,skew,observed,scale)
	@$(BIN)/python -m benchmarks.point_in_time.run $(if $(SETS),--sets $(SETS))

bench-publish: $(READY) ## bulk publication beside Feast's materialize, on one Cassandra node
	@$(BIN)/python -m benchmarks.publish.run

bench-refresh: $(READY) ## from a source commit to readable online, by stage, sensors as shipped (COMMITS=20)
	@$(BIN)/python -m benchmarks.refresh.run $(if $(COMMITS),--commits $(COMMITS))

bench-serving: $(READY) ## the gateway beside Feast's feature server under load, on one Cassandra node
	@$(BIN)/python -m benchmarks.serving.run

bench-skew: $(READY) ## faults injected into what is served, and what is told of them; then windows without a fault (two hours)
	@$(BIN)/python -m benchmarks.skew.trials
	@$(BIN)/python -m benchmarks.skew.clean

bench-windows: $(READY) ## windows of a month from tiles beside a Spark RANGE window over the same tiles
	@$(BIN)/python -m benchmarks.windows.run

lock: $(READY) ## pin the newest allowed packages into requirements.txt
	@$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--all-extras --group dev pyproject.toml -o requirements.txt

clean: ## remove what was built: the environment, the lake, the node's data
	@rm -rf $(VENV) var dist .mypy_cache .ruff_cache .hypothesis

# Every target sets up what it needs first; a second call finds it done. PYTHON=python3.12 make demo picks an interpreter.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
SETUP   = $(PYTHON) scripts/setup_env.py --venv $(VENV)
ARGS   ?=
# Tests at a time, of those that others do not disturb; each takes a core and up to 2 GB.
JOBS   ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 4 ? n : 4)))

# With a sourced ROS 2 the interfaces built into the virtual environment are found through its paths.
ifneq ($(AMENT_PREFIX_PATH),)
export AMENT_PREFIX_PATH := $(abspath $(VENV)):$(AMENT_PREFIX_PATH)
export LD_LIBRARY_PATH := $(abspath $(VENV))/lib:$(LD_LIBRARY_PATH)
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo test bench lint clean

help: ## Show the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-7s %s\n", $$1, $$2}'

setup: ## Set up .venv: Python packages, ROS 2 where none is sourced, the message package
	@$(SETUP)

demo: ## Run the whole system on a generated room over ROS 2; pictures and scores go to out/demo/
	@$(SETUP)
	@$(BIN)/python -m mosaic3d_ros.demo $(ARGS)

test: ## Run all tests (ARGS="test/ros -k query" narrows)
	@$(SETUP) --with test
ifeq ($(strip $(ARGS)),)
	@failed=0; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not alone" -n $(JOBS) --dist loadfile || failed=1; \
	$(BIN)/python -m pytest -m alone || failed=1; \
	exit $$failed
else
	@$(BIN)/python -m pytest $(ARGS)
endif

bench: ## Run all benchmarks; tables on the screen, JSON in out/bench/
	@$(SETUP) --with bench
	@mkdir -p out/bench
	@for file in benchmarks/*.py; do \
	  case "$$file" in */_*) continue;; esac; \
	  name=$$(basename "$$file" .py); echo "== $$name"; \
	  $(BIN)/python "$$file" --json "out/bench/$$name.json" $(ARGS) || exit $$?; \
	done

lint: ## ruff and mypy
	@$(SETUP) --with test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

clean: ## Remove what was built and written (not .venv)
	rm -rf build install log out .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

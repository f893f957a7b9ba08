# make run   chat; ARGS="--profile guide-q4" hands on arguments       make test   all checks and tests
# make bench every budget, measured on this machine                   make guide  train the guide again
# make peers llama-bench and llama-perplexity on the same libraries   make clean  remove all that was built
#
# The first call makes .venv and compiles llama-cpp-python (about five minutes on two cores; log: .venv/build.log).
# For a GPU:  CMAKE_ARGS="-DGGML_CUDA=on" make run    (Metal: -DGGML_METAL=on, Vulkan: -DGGML_VULKAN=on, HIP: -DGGML_HIP=on)
# It is remembered; other CMAKE_ARGS compile llama-cpp-python again.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := build/peers
ARGS ?=

# Given in the environment or on the command line, even if empty; otherwise what was built stays.
ifneq ($(origin CMAKE_ARGS),undefined)
export PAGEWISE_CMAKE_ARGS := given:$(CMAKE_ARGS)
endif
export CMAKE_ARGS
export PYTHON

.PHONY: run test bench guide peers clean installed installed-dev

run: installed
	@$(BIN)/pagewise $(ARGS)

test: installed-dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest $(ARGS)

bench: installed-dev peers
	$(BIN)/python -m tests.bench.run --peers $(PEERS) $(ARGS)

peers: installed
	tests/bench/peers.sh $(BIN)/python $(PEERS)

guide:
	tools/train-guide.sh $(ARGS)

clean:
	rm -rf $(VENV) .venv-training build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

installed:
	@tools/install.sh $(VENV)

installed-dev:
	@tools/install.sh $(VENV) dev

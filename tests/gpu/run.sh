#!/usr/bin/env bash
# The whole round on a machine with a GPU: tests, then the benchmarks. Python with a GPU build of llama-cpp-python first.
#   tests/gpu/run.sh [PYTHON]        PAGEWISE_GPU_MODEL=FILE uses a model of yours instead of random weights
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${1:-.venv/bin/python}
"$python" -m pagewise doctor || true
"$python" -m pytest tests/gpu -m gpu -s
"$python" -m tests.bench.run header frame idle

#!/bin/sh
# Trains the guide in a virtual environment of its own (PyTorch is not needed for anything else), then puts it into the
# package. Arguments are handed on: see tui/training/README.md. A run that was interrupted goes on from its checkpoint.
set -eu

python=${PYTHON:-python3}
venv=.venv-training
if [ ! -e "$venv/installed" ]; then
    echo "pagewise: making $venv with PyTorch and llama-cpp-python (several minutes; log: $venv/build.log)" >&2
    "$python" -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input \
        torch==2.13.0 numpy tokenizers gguf llama-cpp-python==0.3.36 >"$venv/build.log" 2>&1 || {
        tail -n 20 "$venv/build.log" >&2
        exit 1
    }
    touch "$venv/installed"
fi
here=$(pwd)
cd tui
exec nice -n 10 "$here/$venv/bin/python" -m training.run --steps 4339 --minutes 90 --dev 1 \
    --build "$here/build/guide" --target pagewise/guide/guide-f16.gguf "$@"

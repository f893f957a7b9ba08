#!/usr/bin/env bash
# Puts nvitop into an environment of its own, and builds llama-bench and llama-perplexity from the source that
# llama-cpp-python's sdist vendors, linked against the very
# libraries that pagewise uses, so that a comparison with them compares programs and not builds.
set -euo pipefail
python=${1:?usage: peers.sh PYTHON TARGET_FOLDER}
target=${2:?usage: peers.sh PYTHON TARGET_FOLDER}
if [ ! -e "$target/nvitop/bin/nvitop" ]; then
    # Beside htop what the monitor is measured with; without it the benchmark says so.
    "$python" -m venv "$target/nvitop" && "$target/nvitop/bin/pip" install -q nvitop ||
        echo "peers: nvitop cannot be installed here" >&2
fi
version=$("$python" -c 'from importlib.metadata import version; print(version("llama-cpp-python"))')
libraries=$("$python" -c 'import importlib.util, pathlib; print(pathlib.Path(importlib.util.find_spec("llama_cpp").origin).parent.parent / "lib")')
stamp="$target/built-for-$version"
if [ -e "$stamp" ]; then
    exit 0
fi
if [ ! -e "$libraries/libllama-common.so" ]; then
    echo "peers: $libraries holds no libllama-common.so: this llama-cpp-python was not built from its sdist." >&2
    echo "peers: reinstall it with: pip install --no-binary llama-cpp-python --force-reinstall llama-cpp-python==$version" >&2
    exit 1
fi
mkdir -p "$target/source"
"$python" -m pip download -q --no-deps --no-binary llama-cpp-python -d "$target/source" "llama-cpp-python==$version"
tar -xzf "$target"/source/llama_cpp_python-*.tar.gz -C "$target/source"
llama="$target/source/llama_cpp_python-$version/vendor/llama.cpp"
for tool in llama-bench perplexity; do
    name=$([ "$tool" = perplexity ] && echo llama-perplexity || echo "$tool")
    echo "peers: compiling $name"
    ${CXX:-g++} -std=c++17 -O2 -DNDEBUG -DGGML_BACKEND_SHARED -DGGML_SHARED -DLLAMA_SHARED \
        -I"$llama/include" -I"$llama/common" -I"$llama/src" -I"$llama/ggml/include" -I"$llama/vendor" \
        -I"$llama/tools/$tool" "$llama/tools/$tool/$tool.cpp" "$llama/tools/$tool/main.cpp" \
        -L"$libraries" -Wl,-rpath,"$libraries" -Wl,-rpath-link,"$libraries" \
        -lllama-common -lllama -lggml -lggml-base -lggml-cpu -lpthread -o "$target/$name"
done
rm -rf "$target/source"
touch "$stamp"

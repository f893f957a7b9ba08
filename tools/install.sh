#!/bin/sh
# Makes the virtual environment and installs the project into it; does nothing where that has been done.
# usage: install.sh FOLDER [EXTRA]
# PAGEWISE_CMAKE_ARGS=given:ARGUMENTS: how llama.cpp is to be compiled; unset: as it was.
set -eu

venv=$1
extra=${2:-}
python=${PYTHON:-python3}
log=$venv/build.log
llama=llama-cpp-python
stamp=$venv/installed${extra:+-$extra}
remembered=$venv/cmake-args

say() { printf 'pagewise: %s\n' "$*" >&2; }

fail() {
    say "$1"
    printf '  why   %s\n  next  %s\n' "$2" "$3" >&2
    exit 1
}

check_python() {
    command -v "$python" >/dev/null 2>&1 ||
        fail "there is no $python" "pagewise is written in Python." "Install Python 3.10 or newer, or name it: PYTHON=/path/to/python3 make run"
    "$python" -c '' ||
        fail "$python does not run" "What it says stands above." "Name another one: PYTHON=/path/to/python3 make run"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "$("$python" --version 2>&1) is too old" "pagewise needs Python 3.10 or newer." "Install it, or name another one: PYTHON=python3.12 make run"
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "$python cannot make virtual environments" "Its venv module is not installed." "Debian, Ubuntu: apt install python3-venv. Others: install the full Python."
}

check_compiler() {
    for name in "${CC:-}" cc gcc clang; do
        if [ -n "$name" ] && command -v "${name%% *}" >/dev/null 2>&1; then c=$name; break; fi
    done
    for name in "${CXX:-}" c++ g++ clang++; do
        if [ -n "$name" ] && command -v "${name%% *}" >/dev/null 2>&1; then cxx=$name; break; fi
    done
    [ -n "${c:-}" ] && [ -n "${cxx:-}" ] ||
        fail "there is no C and C++ compiler" "llama.cpp is compiled on this machine, for its processor." "Debian, Ubuntu: apt install build-essential. Fedora: dnf install gcc-c++. macOS: xcode-select --install"
}

# What the log says of how far the compiler is, such as [118/243].
step() { tail -c 40000 "$log" 2>/dev/null | tr '\r' '\n' | sed -n 's/.*\(\[[0-9]*\/[0-9]*\]\).*/\1/p' | tail -n 1; }

# Runs a command with its output in the log, and says once in a while how far it is.
logged() {
    what=$1
    shift
    printf '\n== %s\n' "$*" >>"$log"
    # In a session of its own, so that the compilers can be ended with it.
    "$venv/bin/python" -c 'import os, sys; os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])' "$@" >>"$log" 2>&1 &
    child=$!
    trap 'kill -s TERM -- "-$child" 2>/dev/null || true; exit 130' INT TERM HUP
    began=$(date +%s)
    said=$began
    while kill -0 "$child" 2>/dev/null; do
        now=$(date +%s)
        if [ -t 2 ]; then
            printf '\r\033[K  %s  %d:%02d  %s' "$what" $(((now - began) / 60)) $(((now - began) % 60)) "$(step)" >&2
        elif [ $((now - said)) -ge 30 ]; then
            printf '  %s  %d:%02d  %s\n' "$what" $(((now - began) / 60)) $(((now - began) % 60)) "$(step)" >&2
            said=$now
        fi
        sleep 1
    done
    if [ -t 2 ]; then printf '\r\033[K' >&2; fi
    status=0
    wait "$child" || status=$?
    trap - INT TERM HUP
    [ "$status" -eq 0 ] && return 0
    say "$what did not work. What $log says of errors, and its last lines:"
    {
        grep -E -A 3 'CMake Error|[Ee]rror:|No space left|not found|Could not' "$log" | awk '!seen[$0]++' | head -n 16
        echo ...
        tail -n 12 "$log"
    } | sed 's/^/    /' >&2
    printf '  next  %s\n' "Mend what the lines above name (a compiler or a library that is missing, no network, a full disk), then run make again." >&2
    exit 1
}

wanted=$(cat "$remembered" 2>/dev/null || true)
case ${PAGEWISE_CMAKE_ARGS:-} in
    given:*) wanted=${PAGEWISE_CMAKE_ARGS#given:} ;;
esac
built=$(cat "$remembered" 2>/dev/null || true)

# What is installed for development serves for running too.
for done in "$stamp" "$venv/installed-dev"; do
    if [ -e "$done" ] && [ ! pyproject.toml -nt "$done" ] && [ "$wanted" = "$built" ] && [ -x "$venv/bin/python" ]; then
        exit 0
    fi
done

check_python
if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c '' 2>/dev/null; then
    say "making $venv"
    "$python" -m venv --clear "$venv" || fail "$venv could not be made" "See above." "Check the permissions and the space of this folder."
fi

requirement=$("$venv/bin/python" - <<'PY'
import re
text = open("pyproject.toml", encoding="utf-8").read()
print(re.search(r'"(llama-cpp-python==[^"]+)"', text)[1])
PY
)
version=${requirement#*==}
there=$("$venv/bin/python" -c 'import sys
from importlib.metadata import PackageNotFoundError, version
try:
    print(version("llama-cpp-python"))
except PackageNotFoundError:
    pass')

: >"$log"
export CMAKE_ARGS="$wanted"
if [ "$there" != "$version" ] || [ "$wanted" != "$built" ]; then
    check_compiler
    say "compiling $llama ${wanted:+with $wanted }(once; about five minutes on two cores; log: $log)"
    rm -f "$venv"/installed*
    # pip keeps compiled wheels by version alone: one that was compiled with other arguments must not be found.
    if [ -n "$wanted" ] || [ "$wanted" != "$built" ]; then cache=--no-cache-dir; else cache=; fi
    logged "compiling $llama" "$venv/bin/python" -m pip install -v --disable-pip-version-check --no-input $cache \
        --no-binary "$llama" ${there:+--force-reinstall --no-deps} "$requirement"
    printf '%s' "$wanted" >"$remembered"
fi
say "installing pagewise and what it needs"
logged "installing" "$venv/bin/python" -m pip install --disable-pip-version-check --no-input -e ".${extra:+[$extra]}"
touch "$stamp"

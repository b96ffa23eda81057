#!/bin/sh
# Create .venv and install what constraints.txt pins. `make setup` calls it when one of the files that it reads changed.
set -eu
cd "$(dirname "$0")/.."

find_python() {
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "swapline needs Python 3.11 or newer; on Debian: apt-get install python3 python3-venv" >&2
    return 1
}

# Debian packs ensurepip, which makes a virtual environment usable, apart from Python.
need_ensurepip() {
    "$1" -c 'import ensurepip' 2>/dev/null && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y python3-venv
    else
        echo "Python's venv is incomplete; on Debian: sudo apt-get install python3-venv" >&2
        return 1
    fi
}

python="$(find_python)"
if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    need_ensurepip "$python"
    echo "creating .venv with $("$python" --version)"
    "$python" -m venv .venv
fi
echo "installing the pinned dependencies into .venv (about half a minute)"
# The build's own tool is pinned as well, so that no step takes whatever version is newest today.
.venv/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt setuptools
# setuptools warns about editable installations in general; that is what is wanted here.
PYTHONWARNINGS=ignore \
    .venv/bin/python -m pip install -q --disable-pip-version-check --no-build-isolation -c constraints.txt -e '.[dev]'

#!/bin/sh
# Resolve the newest versions in a virtual environment of its own and write them to constraints.txt.
set -eu
cd "$(dirname "$0")/.."
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
.venv/bin/python -m venv "$folder"
"$folder/bin/pip" install -q --upgrade setuptools
"$folder/bin/pip" install -q --no-build-isolation '.[dev]'
# The stubs of the boards are installed apart (see the Makefile), but pinned here as well.
"$folder/bin/pip" install -q micropython-esp32-stubs micropython-rp2-stubs
{
    sed -n '/^#/p' constraints.txt
    "$folder/bin/pip" freeze --all | grep -v -e '^pip==' -e '^swapline' -e ' @ ' | sort -f
} >"$folder/constraints.txt"
mv "$folder/constraints.txt" constraints.txt

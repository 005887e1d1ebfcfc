#!/usr/bin/env bash
# The rooms are mapped to bacmac.* by setuptools' import hook, which type checkers cannot follow
# (pypa/setuptools#3518): give them a tree of links to read instead.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p .links/bacmac
for room in cli host overlays power; do ln -sfn "../../$room" ".links/bacmac/$room"; done

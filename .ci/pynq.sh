#!/usr/bin/env bash
# The code that meets the board, on the real pynq package: each version in an environment of its
# own, because pynq wants an old NumPy. A version runs on the Python of its board image where that
# is here, else on the running one; at least one must run, and which did is said at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
# pynq's version, packages beside it, and Pythons that it works with, the board image's first;
# the first has its image's NumPy too, Ubuntu 22.04's
versions=(
  '3.0.1|pycparser<3 numpy==1.21.5;python_version<"3.11"|3.10 3.11'
  '3.1.2|pycparser<3|3.10 3.11'
  '4.0.0||3.12 3.11 3.10'
)
tests=(tests/pynq tests/device/test_device_contract.py tests/device/test_device_faults.py)

find_python() {  # of the first version that starts; pyenv keeps some that are not on the PATH
  local version full
  for version in "$@"; do
    if "python$version" -c '' 2> /dev/null; then command -v "python$version"; return; fi
    full=$(pyenv versions --bare 2> /dev/null | grep -E "^$version\.[0-9]+$" | tail -1 || true)
    if [ -n "$full" ]; then echo "$(pyenv root)/versions/$full/bin/python"; return; fi
  done
  return 1
}

ran=() missed=()
for line in "${versions[@]}"; do
  IFS='|' read -r version beside pythons <<< "$line"
  # shellcheck disable=SC2086
  if ! python=$(find_python $pythons); then
    missed+=("$version (no Python of $pythons)")
    continue
  fi
  venv=.venv-pynq/$version
  stamp=$venv/.installed
  if [ ! "$stamp" -nt pyproject.toml ]; then
    rm -rf "$venv"
    "$python" -m venv "$venv"
    # in one command: a package that is added later may bring a NumPy that pynq does not work with
    if ! "$venv/bin/pip" install --quiet --disable-pip-version-check --editable '.[pynq,rtl]' \
      "pynq==$version" $beside 'hypothesis>=6.100' 'pytest>=8'; then
      missed+=("$version (cannot be installed)")
      continue
    fi
    touch "$stamp"
  fi
  echo "pynq $version on $("$venv/bin/python" --version)"
  "$venv/bin/python" -m pytest -q -p no:cacheprovider "${tests[@]}" \
    --device pynq:emulated --device pynq:emulated,accelerator=rtl
  ran+=("$version ($("$venv/bin/python" --version))")
done
echo "ran on pynq: ${ran[*]:-none}${missed[*]:+; not on: ${missed[*]}}"
[ ${#ran[@]} -gt 0 ]

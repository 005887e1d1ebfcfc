#!/usr/bin/env bash
# Programs that the tests of the hardware need and pip does not bring: a C++ compiler (simulators
# are built with it) and Icarus Verilog (the second simulator). On Debian and Ubuntu as root they
# are installed; elsewhere it is said what is missing.
set -euo pipefail
missing=()
command -v c++ > /dev/null || command -v g++ > /dev/null || missing+=(g++)
command -v make > /dev/null || missing+=(make)
command -v perl > /dev/null || missing+=(perl)
command -v iverilog > /dev/null || missing+=(iverilog)
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -eq 0 ] && command -v apt-get > /dev/null; then
  echo "installing ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
else
  echo "the tests need ${missing[*]}: install them (Debian, Ubuntu: sudo apt-get install ${missing[*]})" >&2
  exit 2
fi

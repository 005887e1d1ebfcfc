#!/usr/bin/env bash
# Programs that the tests need and pip does not bring: a C++ compiler (simulators are built with
# it), Icarus Verilog (the second simulator), tclsh (reads the script for Vivado) and sshd (the other
# end of a remote device). On Debian and Ubuntu as root they are installed; elsewhere it is said what
# is missing.
set -euo pipefail
missing=()
command -v c++ > /dev/null || command -v g++ > /dev/null || missing+=(g++)
command -v make > /dev/null || missing+=(make)
command -v perl > /dev/null || missing+=(perl)
command -v iverilog > /dev/null || missing+=(iverilog)
command -v tclsh > /dev/null || missing+=(tcl)
command -v ssh > /dev/null || missing+=(openssh-client)
command -v sshd > /dev/null || [ -x /usr/sbin/sshd ] || missing+=(openssh-server)
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -eq 0 ] && command -v apt-get > /dev/null; then
  echo "installing ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
else
  echo "the tests need ${missing[*]}: install them (Debian, Ubuntu: sudo apt-get install ${missing[*]})" >&2
  exit 2
fi

#!/bin/sh
# Installs the Mosquitto broker, which the tests start on ports of their own. Without it those tests are skipped.
set -eu
if ! command -v apt-get >/dev/null; then
    echo "mosquitto is not installed, and this is not Debian: install it by hand; tests that need it will be skipped" >&2
    exit 0
fi
as_root=""
[ "$(id -u)" -eq 0 ] || as_root="sudo -n"
# The package must not start a broker of its own on this machine.
if ! $as_root sh -c 'apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mosquitto >/dev/null'; then
    echo "mosquitto can't be installed: run 'sudo apt-get install mosquitto'; tests that need it will be skipped" >&2
fi

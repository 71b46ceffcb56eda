#!/bin/sh
# The part of the installation that runs inside Debian; called by install.sh.
#
# usage: in-debian.sh WHEEL
set -eu
target=${EDGE_AGENT_TARGET:-/opt/edge-agent}
fresh=$target/$(date +%Y%m%d%H%M%S)
# The certificates are for `models pull`, updates and TLS: the Debian of proot-distro comes without.
certificates=${EDGE_AGENT_CERTIFICATES:-/etc/ssl/certs/ca-certificates.crt}
if ! python3 -c 'import ensurepip' 2>/dev/null || [ ! -e "$certificates" ]; then
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-venv ca-certificates
fi
# Each installation has a folder of its own, so that one that fails leaves the one in use as it is.
mkdir -p "$target"
python3 -m venv "$fresh"
"$fresh/bin/python" -m pip install --no-cache-dir "$1[tflite,onnx]"
ln -s "$fresh" "$fresh.link"
mv -T "$fresh.link" "$target/current"
for folder in "$target"/2*; do
    [ "$folder" = "$fresh" ] || rm -rf "$folder"
done

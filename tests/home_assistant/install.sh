#!/bin/sh
# Home Assistant as its makers publish it, in a Debian 13 of its own, since it needs a newer Python than this machine may
# have: tests/home_assistant/install.sh FOLDER. As root, on Debian; takes some minutes and 2 GB.
set -eu
folder=$1
root=$folder/root
environment=/srv/home-assistant

command -v debootstrap >/dev/null || apt-get install -y debootstrap
rm -rf "$folder"
mkdir -p "$folder"
# Some of what Home Assistant needs is compiled when it is installed.
debootstrap --variant=minbase --include=ca-certificates,g++,libc6-dev,python3-dev,python3-venv trixie "$root"
# The names and the authorities that this machine goes by.
cp /etc/resolv.conf "$root/etc/"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"

chroot "$root" python3 -m venv "$environment"
pip="chroot $root $environment/bin/pip --disable-pip-version-check --no-cache-dir"
$pip install --no-deps homeassistant
# Without the versions that it was tried with, pip looks for fitting ones for hours.
versions=$(cd "$root" && ls srv/home-assistant/lib/python3*/site-packages/homeassistant/package_constraints.txt)
$pip install -c "/$versions" homeassistant paho-mqtt
# What the integration openai_conversation needs, and what it imports of others: Home Assistant would fetch these by itself.
needed=$(chroot "$root" "$environment/bin/python" -c '
import json, pathlib, homeassistant.components as components
for name in ("openai_conversation", "conversation", "assist_pipeline", "tts", "camera", "ffmpeg"):
    for place in components.__path__:
        print(*json.loads(pathlib.Path(place, name, "manifest.json").read_text()).get("requirements", []))')
# shellcheck disable=SC2086 # several words
$pip install -c "/$versions" $needed numpy

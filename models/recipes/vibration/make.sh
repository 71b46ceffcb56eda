#!/bin/sh
# Makes models/vibration from nothing but a simulation. Needs Python 3.11 (python3, python3-venv); neither root nor a
# GPU. All that is not a result stays in $BUILD_DIR.
set -eu

recipe=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$recipe/../../.." && pwd)
build=${BUILD_DIR:-$root/build/vibration}
mkdir -p "$build"
build=$(cd "$build" && pwd)
python=$build/venv/bin/python
# The simulation is part of edge_agent.
export PYTHONDONTWRITEBYTECODE=1 TF_CPP_MIN_LOG_LEVEL=3 PYTHONPATH="$root"

[ -x "$python" ] || python3 -m venv "$build/venv"
"$python" -m pip install --quiet --requirement "$recipe/requirements.txt"
for step in train bundle; do
    (cd "$recipe/.." && "$python" -m "vibration.$step" --out "$root/models/vibration")
done

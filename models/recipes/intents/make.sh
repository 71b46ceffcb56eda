#!/bin/sh
# Makes models/intents from nothing but a generator of phrases. Needs Python 3.11 (python3, python3-venv); neither root
# nor a GPU. Takes twenty minutes of one core. All that is not a result stays in $BUILD_DIR.
set -eu

recipe=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$recipe/../../.." && pwd)
build=${BUILD_DIR:-$root/build/intents}
mkdir -p "$build"
build=$(cd "$build" && pwd)
python=$build/venv/bin/python
# The model is measured with what the agent runs it with.
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$root" OMP_NUM_THREADS=1

[ -x "$python" ] || python3 -m venv "$build/venv"
"$python" -m pip install --quiet --requirement "$recipe/requirements.txt"
cd "$recipe/.."
"$python" -m intents.train --build "$build"
"$python" -m intents.export --build "$build" --out "$root/models/intents"
"$python" -m intents.measure --out "$root/models/intents"

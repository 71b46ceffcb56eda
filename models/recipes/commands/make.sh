#!/bin/sh
# Makes models/commands from nothing but a generator of clauses. Needs Python 3.11 (python3, python3-venv); neither root
# nor a GPU. Takes ten minutes of one core. All that is not a result stays in $BUILD_DIR.
set -eu

recipe=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$recipe/../../.." && pwd)
build=${BUILD_DIR:-$root/build/commands}
mkdir -p "$build"
build=$(cd "$build" && pwd)
python=$build/venv/bin/python
# The model is measured with what the agent runs it with.
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$root" OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

[ -x "$python" ] || python3 -m venv "$build/venv"
"$python" -m pip install --quiet --requirement "$recipe/../intents/requirements.txt"
"$python" -m models.recipes.commands.train --build "$build"
"$python" -m models.recipes.commands.export --build "$build" --out "$root/models/commands"
"$python" -m models.recipes.commands.measure --out "$root/models/commands"

#!/bin/sh
# Makes models/activity. Needs Python 3.11 (python3, python3-venv), curl, and the recordings: they are downloaded, or taken
# from the file that $DATASET names. Neither root nor a GPU. All that is not a result stays in $BUILD_DIR.
set -eu

recipe=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$recipe/../../.." && pwd)
build=${BUILD_DIR:-$root/build/activity}
mkdir -p "$build"
build=$(cd "$build" && pwd)
python=$build/venv/bin/python
export PYTHONDONTWRITEBYTECODE=1 TF_CPP_MIN_LOG_LEVEL=3

url=https://raw.githubusercontent.com/ChristophKarlHeck/human-activity-recognition/a71984a11a6621cbf1cfd88742868882d9cd0e19/dataset.zip
sha256=54dd162d06d24d05520843cf818d65e68583281af8269f05a969847e4fc0249d
data=${DATASET:-$build/dataset.zip}
[ -f "$data" ] || curl --fail --silent --show-error --location --output "$data" "$url"
echo "$sha256  $data" | sha256sum --check --quiet

[ -x "$python" ] || python3 -m venv "$build/venv"
"$python" -m pip install --quiet --requirement "$recipe/requirements.txt"
for step in train bundle; do
    (cd "$recipe/.." && "$python" -m "activity.$step" --data "$data" --out "$root/models/activity")
done

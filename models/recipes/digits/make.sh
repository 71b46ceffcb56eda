#!/bin/sh
# Makes models/digits and models/clips from nothing but this folder, PyPI and Debian's font packages.
#
#   make.sh         everything: fonts, training data, training, export, clip, measurements, bundle
#   make.sh clip    only the clip of the meter
#
# Needs Debian 12 with Python 3.11 (python3, python3-venv) and package lists (apt-get update).
# Neither root nor a GPU. All that is not a result stays in $BUILD_DIR.
set -eu

recipe=$(cd "$(dirname "$0")" && pwd)
models=$(cd "$recipe/../.." && pwd)
build=${BUILD_DIR:-$models/../build/models}
mkdir -p "$build"
build=$(cd "$build" && pwd)
python=$build/venv/bin/python
fonts=$build/fonts
export PYTHONDONTWRITEBYTECODE=1 TF_CPP_MIN_LOG_LEVEL=3

run() {
    module=$1
    shift
    (cd "$recipe/.." && "$python" -m "digits.$module" "$@")
}

make_environment() {
    [ -x "$python" ] || python3 -m venv "$build/venv"
    "$python" -m pip install --quiet --requirement "$recipe/requirements.txt"
}

# Unpacks the font packages without installing them.
fetch_fonts() {
    [ ! -d "$fonts" ] || return 0
    mkdir -p "$build/packages"
    packages=$(sed -n 's/^\(train\|test\|segments\) *\([^ ]*\) .*/\2/p' "$recipe/fonts.txt")
    (cd "$build/packages" && apt-get download --quiet $packages)
    for package in "$build/packages"/*.deb; do
        dpkg-deb --extract "$package" "$fonts.new"
    done
    mv "$fonts.new" "$fonts"
}

make_clip() {
    run clip --fonts "$fonts" --out "$models/clips"
}

make_model() {
    run train --fonts "$fonts" --out "$build/digits.keras"
    run export --fonts "$fonts" --network "$build/digits.keras" \
        --out "$models/digits"
    run evaluate --fonts "$fonts" --models "$models/digits" --clip "$models/clips" \
        --out "$build/evaluation.json"
    run bundle --fonts "$fonts" --evaluation "$build/evaluation.json" \
        --out "$models/digits"
}

case ${1:-all} in
    all) make_environment; fetch_fonts; make_clip; make_model ;;
    clip) make_environment; fetch_fonts; make_clip ;;
    *) echo "usage: make.sh [all|clip]" >&2; exit 2 ;;
esac

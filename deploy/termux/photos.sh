#!/bin/sh
# Takes photos with a phone's camera and prints them one after the other, for a source of type command, format mjpeg.
#
# usage: photos.sh CAMERA SECONDS
#   CAMERA   number of the camera, see termux-camera-info
#   SECONDS  pause between two photos
set -eu
camera=$1
pause=$2
# Beside this script, in Termux' home: Android's program that takes the photo runs outside of Debian and sees no /tmp of it.
photo=$(dirname "$(realpath "$0")")/.photo-$camera.jpg
trap 'rm -f "$photo"' EXIT
trap 'exit 0' TERM INT
while :; do
    : >"$photo"
    # A camera that is in use leaves the file empty; the next photo may be fine.
    if termux-camera-photo -c "$camera" "$photo" >&2 && [ -s "$photo" ]; then
        cat "$photo"
    else
        echo "no photo: is the camera in use, and has Termux:API the permission for it?" >&2
    fi
    sleep "$pause" &
    wait $!
done

#!/bin/sh
# Makes the clips of speech again. Debian: flite, ffmpeg.
set -eu
cd "$(dirname "$0")"
say() {
    flite -voice "$1" -t "$2" -o voice.wav
    ffmpeg -loglevel error -y -i voice.wav -ar 16000 -ac 1 -bitexact "$3.wav"
    rm voice.wav
}
say slt "turn the porch light on" turn_the_porch_light_on
say rms "turn the porch light off" turn_the_porch_light_off
say awb "what is the weather like in paris" weather_in_paris

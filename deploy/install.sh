#!/bin/sh
# Installs edge-agent as a service on Raspberry Pi OS, Debian or Ubuntu. Run it again with another wheel to update.
#
# usage: install.sh [--extras LIST] [--wheelhouse DIR] [--ready-within SECONDS] [--watch SECONDS] [--check-broker] WHEEL
#        install.sh --back
#        install.sh --uninstall [--purge]
#        install.sh --prepare DIR
#        install.sh --help
#   WHEEL                   path of edge_agent_runtime-*.whl
#   --extras LIST           runtimes and other extras, with commas between them (tflite)
#   --wheelhouse DIR        everything else comes from the wheels in this folder, nothing from the internet
#   --ready-within SECONDS  time for the new version to load its models, before the old one is taken back (300)
#   --watch SECONDS         for how long the new version must stay up, before it counts as running (60)
#   --check-broker          the new version must reach the broker, before the service is touched
#   --back                  goes back to the version before
#   --uninstall             removes the program, its state and its user; /etc/edge-agent stays
#   --purge                 removes /etc/edge-agent too
#   --prepare DIR           for packages, which bring the program in DIR and the unit: makes the user, the folders, the
#                           groups and credentials of the service, and checks the configuration
#
# Where systemd does not run, as in a container or in the image of a system, everything is installed and nothing started.
#
# Exit codes: 0 done; 1 refused, and what was running goes on; 2 wrong arguments; 3 the new version did not become ready,
# and the old one is in use again; 4 it did not become ready, and no other one is.
#
# EDGE_AGENT_ROOT, for trials: all files go below this folder.
set -eu
umask 022

fail() {
    echo "install.sh: $1" >&2
    exit "${2:-1}"
}

root=${EDGE_AGENT_ROOT:-}
opt=$root/opt/edge-agent
etc=$root/etc/edge-agent
state=$root/var/lib/edge-agent
units=$root/etc/systemd/system
unit=$units/edge-agent.service
# Before override.conf, which is what `systemctl edit` writes.
drop_in=$unit.d/10-install.conf
# Seconds before each look at whether a version is still up. After a failure systemd waits 10 seconds before it starts
# the service again, so that none is missed.
seconds_between=5

extras=tflite wheelhouse='' ready_within=300 watch=60 back='' check_broker='' uninstall='' purge='' prepare='' wheel=''
while [ $# -gt 0 ]; do
    case $1 in
    --extras | --wheelhouse | --ready-within | --watch | --prepare)
        [ $# -ge 2 ] || fail "$1 needs a value" 2
        case $1 in
        --extras) extras=$2 ;;
        --wheelhouse) wheelhouse=$2 ;;
        --ready-within) ready_within=$2 ;;
        --watch) watch=$2 ;;
        --prepare) prepare=$2 ;;
        esac
        shift
        ;;
    --check-broker) check_broker=--broker ;;
    --back) back=yes ;;
    --uninstall) uninstall=yes ;;
    --purge) purge=yes ;;
    -h | --help)
        sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    -*) fail "there is no option $1; see --help" 2 ;;
    *)
        [ -z "$wheel" ] || fail "expected one wheel, found $wheel and $1" 2
        wheel=$1
        ;;
    esac
    shift
done
[ -n "$root" ] || [ "$(id -u)" -eq 0 ] || fail "run it as root: sudo sh install.sh ..."
# Without a running systemd, systemctl can still enable and disable.
has_systemctl='' systemd_runs=''
if command -v systemctl >/dev/null; then
    has_systemctl=yes
    [ ! -d "$root/run/systemd/system" ] || systemd_runs=yes
fi
reload_units() {
    [ -z "$systemd_runs" ] || systemctl daemon-reload
}

if [ -n "$uninstall" ]; then
    [ -z "$wheel" ] || fail "--uninstall takes no wheel" 2
    [ -z "$has_systemctl" ] || systemctl disable ${systemd_runs:+--now} --quiet edge-agent.service 2>/dev/null ||
        [ ! -e "$unit" ] || fail "the service does not stop"
    [ -z "$has_systemctl" ] || [ ! -e "$units/edge-agent-update.path" ] ||
        systemctl disable ${systemd_runs:+--now} --quiet edge-agent-update.path edge-agent-update.service || true
    rm -f "$unit" "$drop_in" "$units/edge-agent-update.path" "$units/edge-agent-update.service"
    [ -z "$purge" ] || rm -rf "$unit.d" "$etc"
    rmdir "$unit.d" 2>/dev/null || true # what the user wrote there stays
    reload_units
    rm -rf "$opt" "$state"
    if getent passwd edge-agent >/dev/null; then userdel edge-agent; fi
    echo "edge-agent is removed"
    [ ! -d "$etc" ] || echo "its configuration is still in $etc"
    exit 0
fi

# What a version ships beside its program.
shipped() {
    for file in "$1"/lib/python3.*/site-packages/edge_agent/shipped/"$2"; do
        if [ -e "$file" ]; then echo "$file"; fi
    done
}

put() { # standard input, unless the file says the same already
    cat >"$1.new"
    if cmp -s "$1.new" "$1"; then rm "$1.new"; else mv "$1.new" "$1" && changed=yes; fi
}

link() {
    ln -sfn "${1##*/}" "$opt/$2.new"
    mv -T "$opt/$2.new" "$opt/$2"
}

# Makes a version the one that the service runs.
switch_to() {
    for name in edge-agent.service edge-agent-update.service edge-agent-update.path; do
        file=$(shipped "$1" "$name")
        [ -z "$file" ] || put "$units/$name" <"$file"
    done
    if [ "$(readlink "$opt/current")" != "${1##*/}" ]; then
        changed=yes
        link "$1" current
    fi
    reload_units
}

# `restart` ends when the service says that it is ready: its models are loaded and have run.
becomes_ready() {
    timeout "$ready_within" systemctl restart edge-agent.service || return 1
    for _ in $(seq $(((watch + seconds_between - 1) / seconds_between))); do
        sleep "$seconds_between"
        systemctl is-active --quiet edge-agent.service || return 1
    done
}

if [ -n "$back" ]; then
    [ -z "$wheel" ] || fail "--back takes no wheel" 2
    case $watch in '' | *[!0-9]*) fail "--watch: expected seconds, found '$watch'" 2 ;; esac
    exec 9>>"$opt/.lock" || fail "nothing is installed"
    flock -n 9 || fail "another installation is under way"
    previous=$(readlink "$opt/previous" || true)
    { [ -n "$previous" ] && [ -x "$opt/$previous/bin/edge-agent" ]; } || fail "there is no version before this one"
    switch_to "$opt/$previous"
    if [ -n "$systemd_runs" ]; then
        becomes_ready || fail "$previous does not become ready: see journalctl -u edge-agent" 4
    fi
    rm -f "$opt/previous"
    echo "edge-agent $previous is running"
    exit 0
fi

[ -z "$purge" ] || fail "--purge goes with --uninstall" 2

make_account_and_folders() {
    getent passwd edge-agent >/dev/null ||
        useradd --system --user-group --home-dir /var/lib/edge-agent --no-create-home --shell /usr/sbin/nologin edge-agent
    mkdir -p "$etc" "$state" "$unit.d"
    chown edge-agent:edge-agent "$state"
    chmod 700 "$state"
    mkdir -p "$etc/credentials"
    chmod 700 "$etc/credentials"
    chown -R root:root "$etc/credentials"
    find "$etc/credentials" -type f -exec chmod 600 {} +
    [ -e "$etc/agent.yaml" ] || cp "$(shipped "$1" agent.yaml)" "$etc/agent.yaml"
}

# With what the service will see: its user, its state, its credentials.
run_check() {
    for file in "$etc"/credentials/*; do
        [ ! -f "$file" ] || cp "$file" "$credentials"
    done
    chown -R edge-agent:edge-agent "$credentials"
    code=0
    # shellcheck disable=SC2086 # nothing where it is empty
    runuser -u edge-agent -- env STATE_DIRECTORY="$state" CREDENTIALS_DIRECTORY="$credentials" \
        "$1/bin/edge-agent" check $check_broker -c "$etc/agent.yaml" 2>&1 || code=$?
    return "$code"
}

check_configuration() {
    cd / # the service's user may not enter the folder of the one who calls this
    mkdir -p "$root/run"
    credentials=$(mktemp -d "$root/run/edge-agent-check.XXXXXX") # in memory, as systemd keeps them
    if ! said=$(run_check "$1"); then
        echo "$said" >&2
        fail "edge-agent${version:+ $version} refuses $etc/agent.yaml; $refused"
    fi
    rm -rf "$credentials"
}

# A Coral Edge TPU on USB, before or after its firmware is loaded; or one that is expected.
has_edge_tpu() {
    cat "$root"/sys/bus/usb/devices/*/uevent 2>/dev/null | grep -Eqi '^PRODUCT=(1a6e/89a|18d1/9302)/' ||
        grep -v '^ *#' "$etc/agent.yaml" | grep -q edgetpu
}

# A group that does not exist would keep the service from starting.
write_drop_in() {
    groups=''
    for group in video plugdev apex; do
        if getent group "$group" >/dev/null; then groups="$groups $group"; fi
    done
    echo "# Written by install.sh. Changes belong beside it: systemctl edit edge-agent"
    echo "[Service]"
    ! has_edge_tpu || echo "DeviceAllow=char-usb_device rw"
    echo "SupplementaryGroups="
    [ -z "$groups" ] || echo "SupplementaryGroups=${groups# }"
    for file in "$etc"/credentials/*; do
        [ ! -f "$file" ] || echo "LoadCredential=${file##*/}:/etc/edge-agent/credentials/${file##*/}"
    done
}

# So that what is half made is removed then, too.
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

unfinished='' credentials='' changed='' version='' refused='what was running goes on'
if [ -n "$prepare" ]; then
    trap '[ -z "$credentials" ] || rm -rf "$credentials"' EXIT
    [ -z "$wheel" ] || fail "--prepare takes no wheel" 2
    [ -x "$prepare/bin/edge-agent" ] || fail "there is no program $prepare/bin/edge-agent" 2
    refused='the service is not started'
    make_account_and_folders "$prepare"
    write_drop_in | put "$drop_in"
    check_configuration "$prepare"
    exit 0
fi
[ ! -e "$root/usr/lib/edge-agent/pyvenv.cfg" ] || fail "edge-agent is installed as a package: first apt-get remove edge-agent"

[ -n "$wheel" ] || fail "expected the path of edge_agent_runtime-*.whl" 2
case $extras in '' | *[!a-z0-9,-]*) fail "--extras: expected names with commas between them, found '$extras'" 2 ;; esac
case $ready_within in '' | *[!0-9]*) fail "--ready-within: expected seconds, found '$ready_within'" 2 ;; esac
case $watch in '' | *[!0-9]*) fail "--watch: expected seconds, found '$watch'" 2 ;; esac
[ -f "$wheel" ] || fail "there is no file $wheel"
file=${wheel##*/}
# Without _runtime: a version from before the change of the name, to go back to.
case $file in
edge_agent_runtime-*-*.whl | edge_agent-*-*.whl) ;;
*) fail "$wheel is no wheel of edge-agent: expected edge_agent_runtime-*.whl" ;;
esac
wheel=$(realpath "$wheel")
version=${file#*-}
version=${version%%-*}
if [ -n "$wheelhouse" ]; then
    [ -d "$wheelhouse" ] || fail "there is no folder $wheelhouse"
    wheelhouse=$(realpath "$wheelhouse")
fi
command -v apt-get >/dev/null || fail "this is no Raspberry Pi OS, Debian or Ubuntu: there is no apt-get"

# The system's Python, and on 32-bit systems OpenCV, NumPy and PyYAML, of which there are no wheels.
packages=''
if command -v python3 >/dev/null; then
    python=$(python3 -c 'import struct, sys; print(*sys.version_info[:2], 8 * struct.calcsize("P"))')
    case $python in
    '3 11 '* | '3 12 '* | '3 13 '*) ;;
    *) fail "Python is $(python3 --version): 3.11 to 3.13 are supported" ;;
    esac
    bits=${python##* }
    python3 -c 'import ensurepip' 2>/dev/null || packages=python3-venv
    [ "$bits" = 64 ] || python3 -c 'import cv2, numpy, yaml' 2>/dev/null ||
        packages="$packages python3-opencv python3-numpy python3-yaml"
else
    fail "there is no python3: apt-get install python3-venv"
fi

extras_of_the_wheel() {
    python3 - "$wheel" <<'END'
import sys
from email import message_from_bytes
from zipfile import ZipFile

try:
    with ZipFile(sys.argv[1]) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = message_from_bytes(wheel.read(name))
except Exception as error:
    sys.exit(f"{error}")
print(*[extra for extra in metadata.get_all("Provides-Extra", []) if extra != "dev"])
END
}
known=$(extras_of_the_wheel) || fail "$wheel can't be read as a wheel: see above"
for extra in $(echo "$extras" | tr , ' '); do
    case " $known " in *" $extra "*) ;; *) fail "--extras: there is no extra '$extra'; there are: $known" 2 ;; esac
done
if [ -n "$packages" ]; then
    [ -z "$wheelhouse" ] || fail "missing packages of the system: apt-get install $packages"
    echo "Installing $packages"
    # shellcheck disable=SC2086 # several packages
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $packages; } ||
        fail "apt-get does not install $packages"
fi

mkdir -p "$opt"
exec 9>>"$opt/.lock"
flock -n 9 || fail "another installation is under way"
# What a failure, Ctrl-C or a lost connection would leave half made.
clean_up() {
    [ -z "$credentials" ] || rm -rf "$credentials"
    [ -z "$unfinished" ] || rm -rf "$unfinished"
    for file in "$opt"/* "$opt"/.[!.]*; do
        case ${file##*/} in .lock | '*' | '.[!.]*') ;; *) return 0 ;; esac
    done
    rm -rf "$opt"
}
trap clean_up EXIT

# The wheels that pip takes from the index or the wheelhouse. A 32-bit system is often run by a 64-bit kernel, and then its
# markers say that it is a 64-bit machine: so they are answered here.
requirements_of_32_bit() {
    "$1/bin/python" - "$wheel" "$extras" <<'END'
import sys
from email import message_from_bytes
from zipfile import ZipFile

from pip._vendor.packaging.requirements import Requirement

with ZipFile(sys.argv[1]) as wheel:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = message_from_bytes(wheel.read(name))
for text in metadata.get_all("Requires-Dist", []):
    needed = Requirement(text)
    extras = ["", *sys.argv[2].split(",")]
    if not needed.marker or any(needed.marker.evaluate({"platform_machine": "armv7l", "extra": e}) for e in extras):
        needed.marker = None
        print(needed)
END
}

pip_install() {
    environment=$1
    shift
    "$environment/bin/python" -m pip --quiet --disable-pip-version-check --no-input install --no-cache-dir \
        --prefer-binary ${wheelhouse:+--no-index --find-links "$wheelhouse"} "$@"
}

make_environment() {
    rm -rf "$1"
    mkdir "$1"
    # Empty: begun; then complete; ready, once it has been. What has no such file is not from here, and never removed.
    : >"$1/.installed"
    echo "$extras" >"$1/.extras"
    if [ "$bits" = 64 ]; then
        python3 -m venv "$1" && pip_install "$1" "${wheel}[$extras]"
    else
        python3 -m venv --system-site-packages "$1" && requirements_of_32_bit "$1" >"$1/requirements.txt" &&
            pip_install "$1" -r "$1/requirements.txt" && pip_install "$1" --no-deps "$wheel"
    fi && "$1/bin/edge-agent" --version >/dev/null && echo complete >"$1/.installed"
}

# Another wheel of the same version, other extras or another Python make another environment.
fingerprint=$({ cat "$wheel" && echo "$extras $python"; } | sha256sum | cut -c 1-8)
new=$opt/$version-$fingerprint
if [ -s "$new/.installed" ] && "$new/bin/edge-agent" --version >/dev/null; then
    echo "edge-agent $version is there already"
else
    echo "Installing edge-agent $version into $new"
    unfinished=$new
    make_environment "$new" || fail "edge-agent $version can't be installed: see above"
    unfinished=''
fi

configured=yes
[ -e "$etc/agent.yaml" ] || configured=''
make_account_and_folders "$new"
check_configuration "$new"

# A lost connection to the device shall not end this half-way.
trap '' HUP
current=$(readlink "$opt/current" || true)
before=$(readlink "$opt/previous" || true)
# Kept as a link: after a power cut in what follows, the way back is still known. A version that has not yet become ready
# is no way back.
if [ -n "$current" ] && [ "$current" != "${new##*/}" ] && ! grep -qs complete "$opt/$current/.installed"; then
    link "$opt/$current" previous
fi
previous=$(readlink "$opt/previous" || true)
write_drop_in | put "$drop_in"
switch_to "$new"

if [ -z "$configured" ]; then
    cat <<END
edge-agent $version is installed. What is left to do:
  1. Write $etc/agent.yaml. Passwords belong into $etc/credentials, a file each.
  2. Run this again: it checks the configuration and starts the service.
END
    exit 0
fi
[ -z "$has_systemctl" ] || systemctl enable --quiet edge-agent.service
[ -z "$has_systemctl" ] || [ ! -e "$units/edge-agent-update.path" ] ||
    { systemctl enable --quiet edge-agent-update.service &&
        systemctl enable ${systemd_runs:+--now} --quiet edge-agent-update.path; }
if [ -z "$systemd_runs" ]; then
    cat <<END
edge-agent $version is installed, and not started: systemd does not run here.
${has_systemctl:+It starts when this system is booted. }By hand:
  runuser -u edge-agent -- env STATE_DIRECTORY=$state $opt/current/bin/edge-agent run -c $etc/agent.yaml
END
elif [ -z "$changed" ] && grep -qs ready "$new/.installed" && systemctl is-active --quiet edge-agent.service; then
    echo "edge-agent $version is running already"
elif becomes_ready; then
    echo ready >"$new/.installed"
    echo "edge-agent $version is running"
else
    journalctl --no-pager -u edge-agent.service -n 20 >&2 || true
    { [ -n "$previous" ] && [ -x "$opt/$previous/bin/edge-agent" ]; } ||
        fail "edge-agent $version did not become ready within ${ready_within} s; there is no older version to go back to" 4
    switch_to "$opt/$previous"
    becomes_ready || fail "neither edge-agent $version nor $previous becomes ready: see journalctl -u edge-agent" 4
    if [ -n "$before" ] && [ "$before" != "$previous" ] && [ -x "$opt/$before/bin/edge-agent" ]; then
        link "$opt/$before" previous
    else
        rm -f "$opt/previous"
    fi
    grep -qs ready "$new/.installed" || unfinished=$new
    fail "edge-agent $version did not become ready within ${ready_within} s; $previous is in use again" 3
fi

# Stays for the way back: the version before this one.
for folder in "$opt"/*/; do
    name=$(basename "$folder")
    case $name in "${new##*/}" | "$previous" | current | previous) continue ;; esac
    [ ! -e "$folder/.installed" ] || rm -rf "$folder"
done

#!/bin/sh
# Installs edge-agent on an Android phone, from within Termux, and as a service of Termux. Run it again to update.
#
# usage: sh install.sh WHEEL
#   WHEEL   path of edge_agent_runtime-*.whl, somewhere in Termux' home folder
#
# The program lives in a Debian userland (proot-distro): the runtimes that it needs have no packages for Android's own C
# library. Its configuration and its data live in ~/edge-agent, outside of it.
set -eu

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

[ $# = 1 ] || fail "expected one argument, the path of edge_agent_runtime-*.whl"
if [ -z "${PREFIX:-}" ] || ! command -v pkg >/dev/null; then
    fail "this is not Termux: run it on the phone, in the Termux app"
fi
case $(uname -m) in
aarch64 | x86_64) ;;
*) fail "this phone runs as $(uname -m): the runtimes exist for 64-bit processors (aarch64, x86_64) only" ;;
esac
[ -f "$1" ] || fail "there is no file $1"
wheel=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
folder=$HOME/edge-agent
service=$PREFIX/var/service/edge-agent
case $wheel in
"$(realpath "$HOME")"/*) ;;
*) fail "$wheel is outside of $HOME: the Debian userland does not see it; copy it there" ;;
esac

echo "Installing the packages of Termux"
pkg install -y proot-distro termux-api termux-services

if ! proot-distro login debian -- /bin/true >/dev/null 2>&1; then
    echo "Installing Debian (some hundred megabytes)"
    proot-distro install debian
fi

mkdir -p "$folder"
chmod 700 "$folder"
for script in photos.sh start.sh in-debian.sh; do
    cp "$here/$script" "$folder/$script"
    chmod 755 "$folder/$script"
done
# One that is there is the user's own. The host name would be `localhost` on every phone, and no name of a device.
if [ ! -e "$folder/agent.yaml" ]; then
    model=$(getprop ro.product.model 2>/dev/null | tr '[:upper:]' '[:lower:]' | tr -cs '[:lower:][:digit:]' - | cut -c 1-40)
    model=${model#-}
    model=${model%-}
    id=${model:-phone}-$(od -An -N2 -tx1 /dev/urandom | tr -d ' \n')
    sed "1a device_id: $id" "$here/agent.yaml" >"$folder/agent.yaml"
fi

echo "Installing edge-agent in Debian"
proot-distro login debian -- /bin/sh "$folder/in-debian.sh" "$wheel"

# Until it is enabled it stays down.
[ -d "$service" ] || new=yes
mkdir -p "$service/control" "$service/log"
[ -z "${new:-}" ] || touch "$service/down"
for script in run finish control/t control/h log/run; do
    sed -e "s|@PREFIX@|$PREFIX|g" -e "s|@FOLDER@|$folder|g" "$here/service/$script" >"$service/$script.new"
    chmod 755 "$service/$script.new"
    mv "$service/$script.new" "$service/$script"
done

cat <<END
Installed. What is left to do:
  1. Install the app Termux:API from where Termux is from, and turn off Android's battery optimisation for both apps.
  2. Write $folder/agent.yaml, and check it:
       proot-distro login debian -- /opt/edge-agent/current/bin/edge-agent check -c $folder/agent.yaml
  3. Close and open Termux once (for termux-services), then start it, now and whenever Termux starts:
       sv-enable edge-agent
  The log: tail -f $PREFIX/var/log/sv/edge-agent/current
END

#!/bin/sh
# Builds the image localhost/edge-agent from Debian's packages and the project's own, without a registry and, as an
# ordinary user, without root. Needs mmdebstrap, podman and uidmap (Debian: apt-get install mmdebstrap podman uidmap).
#
# usage: build.sh PACKAGE.deb
#   PACKAGE.deb  as deploy/debian/build.py makes it, such as edge-agent_0.1.0+deb13_amd64.deb
set -eu

fail() {
    echo "build.sh: $1" >&2
    exit 2
}

[ $# -eq 1 ] || fail "expected the path of one package"
[ -f "$1" ] || fail "there is no file $1"
package=$(realpath "$1")
file=${package##*/}
version=${file#edge-agent_}
version=${version%%+deb*}
case $file in
edge-agent_*+deb12_*.deb) suite=bookworm ;;
edge-agent_*+deb13_*.deb) suite=trixie ;;
*) fail "expected edge-agent_VERSION+deb12_ARCHITECTURE.deb or +deb13, found $file" ;;
esac
architecture=${file##*_}
architecture=${architecture%.deb}
for program in mmdebstrap podman; do
    command -v $program >/dev/null || fail "there is no $program: apt-get install mmdebstrap podman uidmap"
done
here=$(dirname "$(realpath "$0")")
mode=unshare
[ "$(id -u)" -ne 0 ] || mode=root

context=$(mktemp -d "${TMPDIR:-/tmp}/edge-agent-image.XXXXXX")
trap 'rm -rf "$context"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
cp "$package" "$context"
# As Debian's own slim image: without manuals, and with the licences.
mmdebstrap --quiet --mode=$mode --variant=apt --architectures="$architecture" \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    $suite - | podman import --quiet - "localhost/edge-agent-debian:$suite-$architecture"
podman build --file "$here/Containerfile" --build-arg BUILD_FROM="localhost/edge-agent-debian:$suite-$architecture" \
    --label org.opencontainers.image.version="$version" --tag "localhost/edge-agent:$version" \
    --tag localhost/edge-agent:latest "$context"

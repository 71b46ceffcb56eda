#!/bin/sh
# Starts edge-agent inside Debian; called by the service. Its process id is noted because proot passes no signals on.
set -eu
cd "$(dirname "$0")"
echo $$ >pid
exec "${EDGE_AGENT_TARGET:-/opt/edge-agent}/current/bin/edge-agent" run -c agent.yaml

#!/bin/sh
# Makes what compose.yaml mounts, in deploy/compose/secrets/: a key pair, whose private half no
# container gets, the agents' tokens and one for you. What is there already is made anew, but the key.
#
# Uses the image; GIMLET_BIN=path uses a program.
set -eu
umask 022
dir=$(cd "$(dirname "$0")" && pwd)/secrets
mkdir -p "$dir/server" "$dir/agents"
# The containers run as somebody else, so what they get is readable, in a folder that only you enter.
chmod 700 "$dir"

gimlet() {
    if [ -n "${GIMLET_BIN:-}" ]; then
        "$GIMLET_BIN" "$@"
    else
        docker run --rm --network none --user "$(id -u):$(id -g)" -v "$dir:$dir" gimlet:0.1.0 "$@"
    fi
}

# Usage: token FILE OPTION...
token() {
    file=$1
    shift
    gimlet jwt "$@" --duration 365d --private-key-file "$dir/gimlet.pem" >"$file.new"
    mv "$file.new" "$file"
}

token "$dir/agents/v1.token" agent --subject agent-v1 --service v1
token "$dir/agents/v2.token" agent --subject agent-v2 --service v2
token "$dir/client.token" client --subject you --services 'v*'
cp "$dir/gimlet.pub" "$dir/server/gimlet.pub"
echo "keys.sh: $dir: one key, tokens for two agents and for you"

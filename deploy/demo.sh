#!/usr/bin/env bash
# Gimlet in two minutes: builds it, makes a key and tokens, starts a private backend, a server and an agent,
# and shows a request that goes through.
#
#   deploy/demo.sh          keeps everything running until Ctrl-C, and says what to try
#   deploy/demo.sh --once   proves one round trip, prints it and exits 0
#
# Everything it makes is in build/ and in one temporary folder, which it removes. It listens on 127.0.0.1 only.
# GIMLET_BIN=path uses a program that is there already, instead of building one.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH LC_ALL=C.UTF-8

once=0
case ${1:-} in
    '') ;;
    --once) once=1 ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "usage: deploy/demo.sh [--once]" >&2; exit 2 ;;
esac

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' cyan=$'\e[36m' plain=$'\e[0m'
else
    bold='' dim='' green='' red='' cyan='' plain=''
fi

# What is set for another Gimlet of yours is not for this one.
# shellcheck disable=SC2086 # names
unset ${!GIMLET_SERVER_@} ${!GIMLET_AGENT_@} ${!GIMLET_JWT_@} ${!GIMLET_LOG_@}

work=$(mktemp -d "${TMPDIR:-/tmp}/gimlet-demo.XXXXXX")
pids=()

clean_up() {
    local status=$?
    trap - EXIT INT TERM
    # The agent first, so that it can say goodbye; then the server; the backend last.
    local i
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        kill "${pids[i]}" 2>/dev/null || continue
        wait "${pids[i]}" 2>/dev/null || true
    done
    rm -rf "$work"
    exit $status
}
trap clean_up EXIT
trap 'printf "\n"; exit 0' INT TERM

# Usage: step NAME TEXT
step() { printf '  %s✓%s %-9s %s\n' "$green" "$plain" "$1" "$2"; }

# Usage: fail WORDS [LOG]
fail() {
    printf '\n  %s✗ %s%s\n' "$red$bold" "$1" "$plain" >&2
    if [ -n "${2:-}" ] && [ -s "$2" ]; then
        printf '\n%s    the end of its log:%s\n' "$dim" "$plain" >&2
        tail -n 25 "$2" | cut -c 1-300 | sed 's/^/    │ /' >&2
    fi
    printf '\n' >&2
    exit 1
}

# Usage: run LOG COMMAND...   Quietly; its log is shown if it fails.
run() {
    local log=$work/$1.log words=$2
    shift 2
    "$@" >"$log" 2>&1 </dev/null || fail "$words" "$log"
}

# Usage: wait_for SECONDS PID LOG WORDS COMMAND...   Polls until the command succeeds or the process has ended.
wait_for() {
    local end=$((SECONDS + $1)) pid=$2 log=$3 words=$4
    shift 4
    until "$@" >/dev/null 2>&1; do
        kill -0 "$pid" 2>/dev/null || fail "$words: the process has ended" "$log"
        [ $SECONDS -lt "$end" ] || fail "$words: not in time" "$log"
        sleep 0.05
    done
}

# Usage: fetch URL [TOKEN]   A client of a few lines, as not every machine has curl.
fetch() {
    python3 -c '
import sys, urllib.request
request = urllib.request.Request(sys.argv[1], headers={"Authorization": "Bearer " + sys.argv[2]} if sys.argv[2] else {})
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
with opener.open(request, timeout=20) as answer:
    sys.stdout.write(answer.read().decode())' "$1" "${2:-}"
}

build_program() {
    run packages "the packages that Gimlet is built from could not be installed" sh deploy/packages.sh build
    local wolfssl=bundled
    if ! subprojects/fill-cache.sh wolfssl >"$work/cache.log" 2>&1; then
        printf '  %s! the bundled wolfSSL cannot be had here; using the system'"'"'s, which is slower%s\n' "$bold" "$plain"
        wolfssl=system
        run packages "libwolfssl-dev could not be installed" sh deploy/packages.sh system-wolfssl
    fi
    subprojects/fill-cache.sh rust-ring >"$work/cache.log" 2>&1 || true # TLS is slower without
    if [ -f build/build.ninja ]; then
        meson setup --reconfigure build -Dwolfssl=$wolfssl >"$work/setup.log" 2>&1 || rm -rf build
    fi
    [ -f build/build.ninja ] || run setup "meson cannot configure build/" meson setup build -Dwolfssl=$wolfssl
    run build "the build fails" ninja -C build gimlet
}

printf '\n  %sGimlet%s  %sa private service, made reachable without opening a port%s\n\n' "$bold$cyan" "$plain" "$dim" "$plain"

gimlet=${GIMLET_BIN:-}
if [ -z "$gimlet" ]; then
    printf '  %s… building (a minute, the first time)%s' "$dim" "$plain"
    [ -n "$dim" ] || printf '\n'
    started=$SECONDS
    build_program
    gimlet=build/gimlet
    [ -z "$dim" ] || printf '\r\e[K'
    step built "$gimlet, in $((SECONDS - started)) s"
fi
[ -x "$gimlet" ] || fail "$gimlet is not a program"
command -v python3 >/dev/null || fail "the sample backend needs python3: apt-get install python3"

# A key pair; the server gets its public half, which is all it needs to check tokens with.
key=$work/gimlet.pem
"$gimlet" jwt agent --subject demo-agent --service demo --duration 12h --private-key-file "$key" >"$work/agent.token" 2>"$work/jwt.log" ||
    fail "no token for the agent" "$work/jwt.log"
"$gimlet" jwt client --subject you --services demo --duration 12h --private-key-file "$key" >"$work/client.token" 2>"$work/jwt.log" ||
    fail "no token for the client" "$work/jwt.log"
token=$(cat "$work/client.token")
step keys "one key pair, a token for the agent and one for you"

python3 deploy/demo/backend.py "$work/backend.port" >"$work/backend.log" 2>&1 &
pids+=($!)
wait_for 10 $! "$work/backend.log" "the sample backend does not start" test -s "$work/backend.port"
backend=127.0.0.1:$(cat "$work/backend.port")
step backend "$backend, the private service"

port_of_server() { grep -o '"httpPort":[0-9]*' "$work/server.log" | head -n 1 | cut -d : -f 2; }
"$gimlet" server --listen-address 127.0.0.1 --http-port 0 --metrics-port off --token-public-key-file "${key%.pem}.pub" \
    >"$work/server.log" 2>&1 </dev/null &
pids+=($!)
wait_for 15 $! "$work/server.log" "the server does not start" grep -q '"httpPort":[1-9]' "$work/server.log"
server=127.0.0.1:$(port_of_server)
wait_for 15 "${pids[1]}" "$work/server.log" "the server does not answer" fetch "http://$server/health"
io=$(grep -o '"io":"[a-z_]*' "$work/server.log" | head -n 1 | cut -d '"' -f 4 || true)
step server "http://$server${io:+, on $io}"

"$gimlet" agent --server-url "ws://$server/agent" --target-url "http://$backend" --token-file "$work/agent.token" \
    >"$work/agent.log" 2>&1 </dev/null &
pids+=($!)
agent_serves() { fetch "http://$server/health" | grep -q '"demo":1'; }
wait_for 20 $! "$work/agent.log" "the agent does not reach the server" agent_serves
step agent "dialled out to the server; serves \"demo\""

url=http://$server/services/demo
answer=$(fetch "$url/hello" "$token" 2>"$work/fetch.log") || fail "the request does not come through" "$work/fetch.log"
case $answer in
    "Hello from the private side!"*) ;;
    *) fail "the answer is not the backend's: $answer" "$work/agent.log" ;;
esac

printf '\n  %syou%s ──▶ server %s ══▶ agent ──▶ backend %s\n' "$bold" "$plain" "$server" "$backend"
printf '  %sGET /services/demo/hello%s\n  %s◀── %s%s\n\n' "$cyan" "$plain" "$green" "$answer" "$plain"

if [ $once -eq 1 ]; then
    printf '  %sOne round trip, through the tunnel and back.%s\n\n' "$bold" "$plain"
    exit 0
fi

cat <<TEXT
  ${bold}URL${plain}     $url/
  ${bold}Token${plain}   ${dim}$token${plain}

  ${bold}Try${plain}, in another terminal:

    ${cyan}export TOKEN=\$(cat $work/client.token)${plain}

    ${cyan}curl -H "Authorization: Bearer \$TOKEN" $url/hello${plain}
    ${cyan}curl -H "Authorization: Bearer \$TOKEN" $url/whoami${plain}       ${dim}what the backend sees: not your token${plain}
    ${cyan}curl -N -H "Authorization: Bearer \$TOKEN" $url/events${plain}    ${dim}a token stream, word by word${plain}
    ${cyan}curl -H "Authorization: Bearer \$TOKEN" -d 'some text' $url/post${plain}
    ${cyan}curl $url/hello${plain}                                           ${dim}401: no token, no service${plain}
    ${cyan}curl http://$server/health${plain}

  Stop the agent (${cyan}kill ${pids[2]}${plain}) and ask again: 503 agent_unavailable. Logs: $work/*.log

  ${dim}Ctrl-C ends everything and cleans up.${plain}

TEXT

# The agent may be stopped by hand, that is part of the tour; without the server there is nothing left to show.
wait "${pids[1]}" || true
fail "the server has ended" "$work/server.log"

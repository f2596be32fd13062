#!/usr/bin/env bash
# A service and two nodes that share nothing but HTTP: each has a folder of its own, and takes no file: URL.
# A workflow with files runs there, and the nodes tell how many bytes went where. Everything is removed at the end.
#
#     examples/share-nothing/run.sh            # or: run.sh WORKFLOW.cwl [JOB.yml]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
workflow=${1:-$here/../tutorial/words.cwl}
job=${2:-$([ $# -gt 0 ] || echo "$here/../tutorial/words-job.yml")}
place=$(mktemp -d)
servers=()
# shellcheck disable=SC2317 # it is called
stop() {
    for server in "${servers[@]}"; do kill "$server" 2>/dev/null || true; done
    wait
    rm -rf "$place"
}
trap stop EXIT

# started NAME COMMAND...: start a server, and set url to where it answers
started() {
    local name=$1
    shift
    "$@" >"$place/$name.out" 2>"$place/$name.log" &
    servers+=($!)
    url=
    for _ in $(seq 300); do
        url=$(grep -o 'is ready at http://[0-9.:]*' "$place/$name.out" | grep -o 'http.*') && return
        kill -0 $! 2>/dev/null || break
        sleep 0.1
    done
    echo "$name did not start:" >&2
    cat "$place/$name.log" >&2
    exit 1
}

brokers=()
for name in one two; do
    cat >"$place/$name.yaml" <<END
name: $name
port: 0
platforms: [process]
data: ["http://", "data:"]                 # no file: URL is taken
fetch: {private_hosts: ["127.0.0.1"]}      # where the service and the other node are in this example
END
    started "$name" wes-bridge node --config "$place/$name.yaml" --state "$place/node-$name"
    echo "node $name    $url"
    brokers+=("{\"name\": \"$name\", \"url\": \"$url\", \"shares_files\": false}")
done
nodes=$(grep -ho 'http://[0-9.:]*' "$place"/{one,two}.out)

printf 'port: 0\nnodes: []\nbrokers: [%s, %s]\n' "${brokers[@]}" >"$place/service.yaml"
started service wes-bridge serve --config "$place/service.yaml" --state "$place/service"
echo "service     $url"

wes-bridge run --wes "$url" --outdir outputs "$workflow" ${job:+"$job"}
for node in $nodes; do
    echo "$node: $(curl -s "$node/status" | grep -o '"kept": *{[^}]*}')"
done

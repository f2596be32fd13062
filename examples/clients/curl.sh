#!/bin/sh
# Submit a workflow, wait for it, fetch an output, with curl and nothing else.
#     ./curl.sh [URL]      URL of a WES; default: $WES_BRIDGE_URL or http://127.0.0.1:8080
set -eu
cd "$(dirname "$0")"
wes="${1:-${WES_BRIDGE_URL:-http://127.0.0.1:8080}}/ga4gh/wes/v1"

run=$(curl -fsS "$wes/runs" \
    -F workflow_type=CWL \
    -F workflow_type_version=v1.2 \
    -F workflow_url=hello.cwl \
    -F 'workflow_params={"message": "this example has", "file": {"class": "File", "location": "data/curl.sh"}}' \
    -F 'tags={"example": "curl"}' \
    -F 'workflow_attachment=@hello.cwl;filename=hello.cwl' \
    -F 'workflow_attachment=@curl.sh;filename=data/curl.sh' |
    sed 's/.*"run_id": *"\([^"]*\)".*/\1/')
echo "run: $run"

while :; do
    state=$(curl -fsS "$wes/runs/$run/status" | sed 's/.*"state": *"\([^"]*\)".*/\1/')
    echo "state: $state"
    case $state in QUEUED | INITIALIZING | RUNNING | PAUSED | CANCELING) sleep 0.2 ;; *) break ;; esac
done

[ "$state" = COMPLETE ] || { curl -fsS "$wes/runs/$run"; exit 1; }
answer=$(curl -fsS "$wes/runs/$run" | grep -o 'http[^"]*/files/outputs/[^"]*' | head -n 1)
curl -fsS "$answer"

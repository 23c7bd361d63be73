#!/usr/bin/env bash
# The main job with no cluster: catalogue in, pod in, sized pod out. Run by `make demo`.
set -u
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
examples=manifests/examples

bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
    bold=$'\033[1m' plain=$'\033[0m'
fi

run() {
    printf '\n%s$ %s%s\n' "$bold" "$*" "$plain"
    "$@"
}

echo "What may a pod ask for?"
run podsla classes --target kubernetes

echo; echo "A Deployment asks for a class and for 1.5 million packets/s. What does it get, and why?"
run podsla explain -f $examples/edge-gateway.yaml --target kubernetes

echo; echo "What is written into its pods:"
run podsla admit -f $examples/edge-gateway.yaml --target kubernetes -o patch

echo; echo "A pod that asks for more than exists is told so, with both figures:"
run podsla explain -f $examples/too-much.yaml --target kubernetes

echo; echo "The same Deployment where every pod is a machine of its own:"
run podsla admit -f $examples/edge-gateway.yaml --target ack-eci -o table
exit 0

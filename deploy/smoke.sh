#!/usr/bin/env bash
# Brings the composed stack up under a name of its own, scaled to 3 workers and 2 gateways, uses it over HTTP as a client
# would, proves the journal, and takes everything away again, volumes included. Exit code 0 only when all of it held.
# KEEP=1 leaves the stack running and says how to reach it.
set -euo pipefail
cd "$(dirname "$0")/.."

export COMPOSE_PROJECT_NAME="tellerline-smoke-$$"
export TELLERLINE_PORT=0 TELLERLINE_NETWORK_PORT=0 # free ones, chosen by Docker
gateways=2 workers=3
up_max_s=300
started=$(date +%s)

say() { printf '%4ds  %s\n' "$(($(date +%s) - started))" "$*"; }
compose() { docker compose --progress quiet --profile network "$@"; }

finish() {
  local code=$?
  trap - EXIT INT TERM
  if [ "$code" -ne 0 ]; then
    say "FAILED; what the services said last:"
    compose ps --all || true
    compose logs --no-color --tail 25 || true
  fi
  if [ "${KEEP:-}" = 1 ]; then
    say "left running: docker compose -p $COMPOSE_PROJECT_NAME ps"
  else
    compose --profile operator down --volumes --rmi local --remove-orphans --timeout 20 >/dev/null 2>&1 || true
    say "stack, volumes and images removed"
  fi
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

# `migrate` ends, so `up --wait` would take it for a failure: the balancer is the last to become healthy.
wait_until_up() {
  local deadline=$(($(date +%s) + up_max_s))
  until [ "$(compose ps --format '{{.Health}}' balancer)" = healthy ]; do
    [ "$(date +%s)" -lt "$deadline" ] || { say "the balancer is not healthy after ${up_max_s} s"; return 1; }
    sleep 1
  done
}

# What a service counts, summed over the samples of one metric: metric SERVICE INDEX PORT NAME
metric() {
  compose exec -T --index "$2" "$1" python -c "
import sys, urllib.request
text = urllib.request.urlopen('http://127.0.0.1:$3/metrics', timeout=5).read().decode()
print(int(sum(float(line.rsplit(' ', 1)[1]) for line in text.splitlines() if line.startswith('$4'))))"
}

took_part() {
  local service=$1 port=$2 name=$3 count=$4 index counted
  for index in $(seq "$count"); do
    counted=$(metric "$service" "$index" "$port" "$name")
    say "$service $index: $counted $name"
    [ "$counted" -gt 0 ] || { say "$service $index took no part"; return 1; }
  done
}

say "building and starting: $workers workers, $gateways gateways"
compose up --build --detach --scale "ledger_worker=$workers" --scale "gateway=$gateways"
wait_until_up
url="http://127.0.0.1:$(compose port balancer 8080 | sed 's/.*://')"
key=$(compose exec -T gateway cat /run/secrets/admin_key)
network="http://127.0.0.1:$(compose port network 8081 | sed 's/.*://')"
say "up at $url"

# The first worker takes every partition; the others get their share within seconds.
deadline=$(($(date +%s) + 60))
for index in $(seq "$workers"); do
  until [ "$(metric ledger_worker "$index" 9100 ledger_partitions_owned)" -gt 0 ]; do
    [ "$(date +%s)" -lt "$deadline" ] || { say "ledger_worker $index owns no partition"; exit 1; }
    sleep 1
  done
done
say "every worker owns partitions"

TELLERLINE_URL=$url TELLERLINE_NETWORK_URL=$network TELLERLINE_ADMIN_KEY=$key python3 deploy/smoke_client.py
say "the client got what the contract promises"

status_with() { # the status of a read with this key
  python3 -c "
import sys, urllib.error, urllib.request
request = urllib.request.Request('$url/v1/accounts', headers={'Authorization': 'Bearer ' + sys.stdin.read().strip()})
try:
    print(urllib.request.urlopen(request, timeout=10).status)
except urllib.error.HTTPError as error:
    print(error.code)" <<<"$1"
}

until_status() { # KEY STATUS
  local deadline=$(($(date +%s) + 10))
  until [ "$(status_with "$1")" = "$2" ]; do
    [ "$(date +%s)" -lt "$deadline" ] || { say "a key is not answered $2"; return 1; }
  done
}

made=$(compose exec -T gateway tellerline keys create --principal shop --json)
field() { python3 -c "import json, sys; print(json.load(sys.stdin)['$1'])" <<<"$made"; }
until_status "$(field key)" 200
compose exec -T gateway tellerline keys revoke "$(field id)"
until_status "$(field key)" 401
TELLERLINE_ADMIN_KEY=another-admin-key-of-the-smoke compose run --rm -T secrets
until_status another-admin-key-of-the-smoke 200
until_status "$key" 401
say "keys are made and revoked, and another admin key ends the first one"

took_part gateway 9100 tellerline_gateway_requests_total "$gateways"
took_part ledger_worker 9100 ledger_commands_total "$workers"

compose run --rm -T tellerline verify
operator=(-e TELLERLINE_GATEWAY_URL=http://127.0.0.1:8080 -e TELLERLINE_API_KEY=another-admin-key-of-the-smoke)
[ "$(compose exec -T "${operator[@]}" gateway tellerline dead-letters list --json)" = "[]" ] || { say "there are dead letters"; exit 1; }
say "the journal holds, and there is no dead letter"

# A container must not be able to write to its own file system, or be root.
compose exec -T gateway sh -c '! touch /probe 2>/dev/null && [ "$(id -u)" -ne 0 ]'
published=$(docker ps --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" --format '{{.Names}} {{.Ports}}' | grep -- '->' | grep -vc -- "$COMPOSE_PROJECT_NAME-network-" || true)
[ "$published" -eq 1 ] || { say "$published containers publish a port, not 1"; exit 1; }
say "non-root, read-only, one published port beside the simulated network's"
say "all of it held"

#!/bin/sh
# Installs Debian's rabbitmq-server for the private node of `tellerline up`, and starts nothing system-wide:
# neither now (policy-rc.d forbids it for the time of the install) nor at the next boot (the units are disabled).
# Exits 0 when the package is there, 1 with one line that says what to do when it cannot be.
set -eu

server=/usr/lib/rabbitmq/bin/rabbitmq-server
policy=/usr/sbin/policy-rc.d
kept=$policy.kept-by-tellerline

[ -x "$server" ] && exit 0

refuse() {
  echo "setup: RabbitMQ is missing ($1): run 'apt-get install rabbitmq-server' as root, or use 'docker compose up --build'" >&2
  exit 1
}
command -v apt-get >/dev/null || refuse "this is not Debian"
[ "$(id -u)" = 0 ] || refuse "installing it needs root"

restore_policy() {
  rm -f "$policy"
  if [ -e "$kept" ] || [ -L "$kept" ]; then mv "$kept" "$policy"; fi
}
forbid_starts() {
  # A run that was killed has left its own policy in place and the original one beside it.
  if [ ! -e "$kept" ] && { [ -e "$policy" ] || [ -L "$policy" ]; }; then mv "$policy" "$kept"; fi
  printf '#!/bin/sh\n# Written by Tellerline while it installs rabbitmq-server.\nexit 101\n' >"$policy"
  chmod 755 "$policy"
}
trap restore_policy EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
forbid_starts

log=$(mktemp)
echo "setup: installing rabbitmq-server (Debian's package; no system-wide service is started)"
install_package() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rabbitmq-server; }
if ! { apt-get update -qq && install_package; } >"$log" 2>&1 </dev/null; then
  tail -n 5 "$log" >&2
  rm -f "$log"
  refuse "apt-get failed"
fi
rm -f "$log"
for unit in rabbitmq-server.service epmd.service epmd.socket; do
  if command -v systemctl >/dev/null; then systemctl disable "$unit" >/dev/null 2>&1 || true; fi
done
if command -v update-rc.d >/dev/null; then update-rc.d rabbitmq-server disable >/dev/null 2>&1 || true; fi
[ -x "$server" ] || refuse "the package has no $server"

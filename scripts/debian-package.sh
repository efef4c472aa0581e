#!/bin/sh
# debian-package.sh PACKAGE FILE INSTEAD: makes sure that FILE is there, by installing Debian's PACKAGE if it is not.
# Starts nothing system-wide: neither now (policy-rc.d forbids it for the time of the install) nor at the next boot.
# Exits 0 when FILE is there, 1 with one line that says what to do; INSTEAD ends that line.
set -eu

package=$1
file=$2
instead=$3
policy=/usr/sbin/policy-rc.d
kept=$policy.kept-by-tellerline
lock_wait_s=300

[ -e "$file" ] && exit 0

refuse() {
  echo "setup: $package is missing ($1): run 'apt-get install $package' as root$instead" >&2
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
  printf '#!/bin/sh\n# Written by Tellerline while it installs a package.\nexit 101\n' >"$policy"
  chmod 755 "$policy"
}
install_package() {
  apt-get update -qq &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
      -o DPkg::Lock::Timeout=$lock_wait_s "$package"
}
disable_services() {
  for unit in rabbitmq-server.service epmd.service epmd.socket; do
    if command -v systemctl >/dev/null; then systemctl disable "$unit" >/dev/null 2>&1 || true; fi
  done
  if command -v update-rc.d >/dev/null; then update-rc.d rabbitmq-server disable >/dev/null 2>&1 || true; fi
}

# Two clones that are set up at the same time must not take each other's policy for the original one.
exec 9>/run/tellerline-setup.lock
flock -w $lock_wait_s 9 || refuse "another setup does not end"
[ -e "$file" ] && exit 0

log=$(mktemp)
trap 'restore_policy; rm -f "$log"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
forbid_starts
echo "setup: installing Debian's $package; no system-wide service is started"
if ! install_package >"$log" 2>&1 </dev/null; then
  tail -n 5 "$log" >&2
  refuse "apt-get failed"
fi
[ "$package" != rabbitmq-server ] || disable_services
[ -e "$file" ] || refuse "the package has no $file"

#!/bin/sh
# make-venv.sh: makes .venv of $PYTHON if that is set, else of the quickest Python >= 3.11 that is here.
# One that was built without profile-guided optimisation, as pyenv does unless it is asked, makes each service take a fifth
# more CPU. So first comes one on the path that says it was, then the distribution's, which never says so but is
# (python3-venv is installed if that is missing and may be), then any other.
set -eu

names="python3.11 python3.12 python3.13 python3.14 python3"
chosen=
lacking=

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
has_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }
is_optimised() {
  "$1" -c 'import sys, sysconfig as s; sys.exit("--enable-optimizations" not in (s.get_config_var("CONFIG_ARGS") or ""))'
}
install_venv() {
  scripts/debian-package.sh python3-venv \
    "$("$1" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')/ensurepip/__init__.py" ""
}
may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

choose() { # the first on the path that is new enough, has venv and passes the test $1
  for name in $names; do
    python=$(command -v "$name") && is_new_enough "$python" || continue
    if ! has_venv "$python"; then
      lacking=${lacking:-$python}
    elif "$1" "$python"; then
      chosen=$python
      return
    fi
  done
}
choose_distribution() {
  for name in $names; do
    python=/usr/bin/$name
    is_new_enough "$python" || continue
    if has_venv "$python" || { may_install && install_venv "$python"; }; then chosen=$python; fi
    return 0
  done
}

if [ -n "${PYTHON:-}" ]; then
  is_new_enough "$PYTHON" || { echo "setup: $PYTHON is not a Python >= 3.11: set another PYTHON=" >&2; exit 1; }
  has_venv "$PYTHON" || install_venv "$PYTHON"
  chosen=$PYTHON
fi
[ -n "$chosen" ] || choose is_optimised
[ -n "$chosen" ] || choose_distribution
[ -n "$chosen" ] || choose true
if [ -z "$chosen" ] && [ -n "$lacking" ]; then
  install_venv "$lacking" || { echo "setup: or set PYTHON= to a Python >= 3.11 that has venv" >&2; exit 1; }
  chosen=$lacking
fi
[ -n "$chosen" ] || { echo "setup: Python >= 3.11 is missing: install it, or set PYTHON=" >&2; exit 1; }
echo "setup: making .venv with $chosen"
exec "$chosen" -m venv .venv

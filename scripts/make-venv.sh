#!/bin/sh
# make-venv.sh: makes .venv of $PYTHON if that is set, else of the quickest Python >= 3.11 that is here.
# Distributions build theirs with profile-guided optimisation. One that was built by hand, as pyenv does, has none unless it
# was asked for, and then each service takes a fifth more CPU: so the distribution's comes first, python3-venv included.
set -eu

names="python3.11 python3.12 python3.13 python3.14 python3"

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
has_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }
install_venv() {
  scripts/debian-package.sh python3-venv \
    "$("$1" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')/ensurepip/__init__.py" ""
}
may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }
make_venv() {
  echo "setup: making .venv with $1"
  exec "$1" -m venv .venv
}

if [ -n "${PYTHON:-}" ]; then
  is_new_enough "$PYTHON" || { echo "setup: $PYTHON is not a Python >= 3.11: set another PYTHON=" >&2; exit 1; }
  has_venv "$PYTHON" || install_venv "$PYTHON"
  make_venv "$PYTHON"
fi

lacking=
for name in $names; do
  python=/usr/bin/$name
  is_new_enough "$python" || continue
  if has_venv "$python" || { may_install && install_venv "$python"; }; then make_venv "$python"; fi
  lacking=$python
  break
done
for name in $names; do
  python=$(command -v "$name") || continue
  if is_new_enough "$python" && has_venv "$python"; then make_venv "$python"; fi
done
[ -z "$lacking" ] || install_venv "$lacking" # which says what to do
echo "setup: Python >= 3.11 is missing: install it, or set PYTHON=" >&2
exit 1

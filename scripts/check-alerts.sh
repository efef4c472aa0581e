#!/usr/bin/env bash
# The alert rules by Prometheus's own tool: their syntax, and what they do (alerts_test.yml).
set -euo pipefail
cd "$(dirname "$0")/../deploy/prometheus"

if command -v promtool >/dev/null; then
  promtool=(promtool)
else
  promtool=(docker run --rm --volume "$PWD:/rules:ro" --workdir /rules --entrypoint promtool prom/prometheus:v2.53.3)
fi
"${promtool[@]}" check rules alerts.yml
"${promtool[@]}" test rules alerts_test.yml

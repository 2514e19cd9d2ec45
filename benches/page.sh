#!/usr/bin/env bash
# Measures how fast the page is and whether measuring notices who looks at it, for docs/benchmarks.md. Needs root,
# for namespaces, and python3. Downloads into target/tools alone. Arguments go to benches/page.py:
# `benches/page.sh cold`, `benches/page.sh --quick`. QOSD names another binary than the release build of this tree.
set -euo pipefail
cd "$(dirname "$0")/.."

tests/tools.sh
if [ -z "${QOSD:-}" ]; then
    cargo build --release
fi
# What is measured apart from the service is a program of its own; cargo says where it is.
MEASURE=$(cargo build --release --bench journal --message-format=json-render-diagnostics |
    python3 -c 'import json, sys; print([m["executable"] for m in map(json.loads, sys.stdin) if m.get("executable") and m["target"]["name"] == "journal"][0])')
export MEASURE
# No compiled files among the sources.
export PYTHONDONTWRITEBYTECODE=1
exec python3 benches/page.py "$@"

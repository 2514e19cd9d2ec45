#!/usr/bin/env bash
# Measures qosd's pings beside fping, iputils ping and icmplib, and prints the tables of docs/benchmarks.md. Needs root, for
# namespaces, and python3 with venv. Downloads into target/tools and target/bench alone. Arguments go to benches/ping.py:
# `benches/ping.sh accuracy`, `benches/ping.sh --quick`. QOSD names another binary than the release build of this tree.
set -euo pipefail
cd "$(dirname "$0")/.."

tests/tools.sh peers
if [ -z "${QOSD:-}" ]; then
    cargo build --release
fi
if [ ! -x target/bench/venv/bin/python3 ]; then
    python3 -m venv target/bench/venv
fi
target/bench/venv/bin/pip install -q icmplib==3.0.4
# No compiled files among the sources.
export PYTHONDONTWRITEBYTECODE=1
exec python3 benches/ping.py "$@"

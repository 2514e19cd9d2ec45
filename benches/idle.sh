#!/usr/bin/env bash
# Measures qosd beside the three Python loops that it replaces, and prints the tables of docs/benchmarks.md. Needs root, for
# namespaces, and python3 with venv. Installs into target/bench alone. Arguments go to benches/idle.py.
set -euo pipefail
cd "$(dirname "$0")/.."

tests/tools.sh
cargo build --release
if [ ! -x target/bench/venv/bin/python3 ]; then
    python3 -m venv target/bench/venv
fi
target/bench/venv/bin/pip install -q icmplib==3.0.4 requests==2.34.2 influxdb-client==1.50.0
exec python3 benches/idle.py "$@"

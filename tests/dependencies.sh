#!/usr/bin/env bash
# Checks licences, sources and banned crates of every dependency (deny.toml) with cargo-deny, built once into target/tools.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ ! -x target/tools/bin/cargo-deny ]; then
    # Unoptimised: a minute on two cores, and quick enough to run.
    cargo install --quiet --locked cargo-deny --version 0.20.2 --profile dev --root target/tools
fi
target/tools/bin/cargo-deny check --hide-inclusion-graph bans licenses sources

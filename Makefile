# Every recipe is one step that a person can run by hand.
.PHONY: run test prove check ci

# Measures this very host; needs nothing else.
run:
	cargo build --release
	target/release/qosd run --config config/demo.toml

# Every test; those on real packets need root. Ends with the count.
test:
	tests/tools.sh
	tests/run.sh

# The same with the long versions of the tests.
prove:
	tests/tools.sh
	QOSD_PROVE=1 tests/run.sh

# What is quick: format, lints, docs.
check:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps

# Everything that must hold before a merge.
ci:
	.ci/run

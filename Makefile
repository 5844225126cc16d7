# Everything a person does with the project, by name. Needs Rust and a C compiler, nothing else.

CARGO ?= cargo
ARGS ?=
# What the programs print in tests, searched for secrets at the end.
TRANSCRIPTS = $(CURDIR)/target/tmp/transcripts

.PHONY: help demo check build test lint bench load dist

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## one request answered by your machine through the real tunnel, one that is not (ARGS=--once ends by itself)
	$(CARGO) run -- demo $(ARGS)

check: ## the quickest look: does everything compile
	$(CARGO) check --workspace --all-targets

build: ## the debug program, in target/debug/ephemwork
	$(CARGO) build --workspace

# Tests that need a peer (Python packages, OpenSSH, node, curl) say that they skip when it is absent;
# EPHEMWORK_REQUIRE_PEERS=1, as in .ci/run, makes that a failure.
test: ## all tests; those whose peers are not installed say so and skip (ARGS=NAME runs some)
	rm -rf $(TRANSCRIPTS) && mkdir -p $(TRANSCRIPTS)
	EPHEMWORK_TEST_TRANSCRIPTS=$(TRANSCRIPTS) $(CARGO) test --workspace $(ARGS)
	$(CARGO) xtask transcripts $(if $(ARGS),--few) $(TRANSCRIPTS)

lint: ## formatting, clippy with warnings denied, the house rules, licences
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) xtask tidy

bench: ## against nginx and OpenSSH, side by side (ARGS=--quick for a minute's form)
	$(CARGO) xtask bench $(ARGS)

load: ## half an hour of mixed traffic with faults, then a crowd (ARGS=--quick for two minutes)
	$(CARGO) xtask bench load $(ARGS)

dist: ## a stripped static release in dist/ (ARGS='--target aarch64-unknown-linux-musl' for another target)
	$(CARGO) xtask dist $(ARGS)

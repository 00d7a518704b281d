# Loadline: everything a person or CI runs. Each target installs what it needs on a fresh Debian machine (as root or
# with sudo), and says so. Tools, guest images and kernels are cached in LOADLINE_CACHE (/var/cache/loadline).
# Results lie in target/: packages/, bench/, guests' logs.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

# Optimised: its load generator runs inside emulated guests.
testbed := $(or $(CARGO_TARGET_DIR),target)/release/testbed
step := .ci/step
products := -p loadline-node -p loadline-fleet -p loadline-cli

.PHONY: help setup testbed demo test check fmt clippy unit python deny packages guests bench bench-store bench-openb bench-placement bench-queue clean-cache

help: ## this list
	@grep -hE '^[a-zA-Z%-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([^:]+):.*## (.*)/  make \1\t\2/; s/%/NAME/' | expand -t 22

setup: ## install what building, packing and guests need
	@sh tests/setup.sh
	@sh packaging/setup.sh

# With the products, whatever is needed: alone, it would want the same libraries with other features, all anew.
testbed: setup
	@$(step) testbed cargo build --locked --release --quiet $(products) -p loadline-tests --bins

demo: packages testbed ## boot a fleet of guests, install the packages, run real jobs beside production
	@$(testbed) demo

test: check packages guests ## everything CI runs

check: setup fmt clippy unit python deny ## what needs no guest and no root

fmt:
	@$(step) fmt cargo fmt --all --check

clippy:
	@$(step) clippy cargo clippy --locked --quiet --workspace --all-targets -- -D warnings

# Unit, property and contract tests and the repository's own rules (tidy); guest tests are `testbed test`.
unit:
	@$(step) unit cargo test --locked --quiet --workspace

python:
	@$(step) python env -C python python3 -m unittest discover -q -s tests

# Advisories need a database that a machine without a route out cannot fetch: bans, licences and sources are the gate.
deny: setup
	@$(step) deny "$$(sh packaging/tools.sh cargo-deny)/cargo-deny" --locked check bans licenses sources

packages: setup ## .deb packages into target/packages
	@$(step) packages packaging/build.sh

guests: packages testbed
	@$(step) guests $(testbed) test

bench: packages testbed ## all benchmarks: a table each, and target/bench/NAME.json
	@$(testbed) bench

# Need no guest, and so no packages.
bench-store: testbed
	@$(testbed) bench store

# Reads the traces in OPENB_DIR (../shared/data/openb); they are not part of the repository.
bench-openb: testbed
	@$(testbed) bench openb

bench-placement: testbed
	@$(testbed) bench placement

# Reads logs in the standard workload format in SWF_DIR as well, if that is set.
bench-queue: testbed
	@$(testbed) bench queue

# `LOADLINE_BENCH=release make bench-protection` measures the release form (an hour), not the short one (10 min).
# LOADLINE_CELLS=nginx.30,redis measures some of its cells; LOADLINE_CLOCK=host all of them by the host's clock with two
# CPUs; LOADLINE_PREEMPT=voluntary with a kernel as distributions deliver it.
bench-%: packages testbed ## one benchmark
	@$(testbed) bench $*

clean-cache: ## remove cached tools, images and kernels (the next run builds them again)
	@cache="$${LOADLINE_CACHE:-/var/cache/loadline}"; \
	if [ -n "$$(ls -d "$$cache"/run/*/ 2>/dev/null)" ]; then echo "guests are up; end them first: testbed list"; exit 1; fi; \
	echo "removing $$cache"; rm -rf "$$cache"/*

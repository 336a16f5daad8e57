# Everything that one does with this checkout. `make help` lists it.

SHELL := /bin/bash
SWIFT ?= swift
# `make run`: the node's name (its folder under .run/) and its port on 127.0.0.1.
NODE ?= node
PORT ?= 8080
# `make bench`: further arguments, such as BENCH='--scale 0.05' or BENCH=append.
BENCH ?=
# Debian's own: Debian's Selenium is for that one.
PYTHON := /usr/bin/python3

# `make fuzz`: seconds for each target, and which ones; without, all.
FUZZ ?= 60
TARGETS ?=

# `make torture`: minutes, and where to begin.
TORTURE ?= 60
SEED ?=

SOURCES := Package.swift Sources Tests Benchmarks Fuzz/Package.swift Fuzz/Sources

export SWIFT NODE PORT

.DEFAULT_GOAL := help
.PHONY: help setup build web wasm run test fuzz sanitize conformance torture test-system check deb bench bench-browser
.PHONY: screenshots format lint clean

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install the Debian packages that a build needs, if any are missing.
	@scripts/setup build

build: setup web ## Build hyphad and hyphactl into .build/debug, and the web client.
	$(SWIFT) build

# One at a time: several nodes may be started at once.
web: wasm ## Make the web client in .build/web.
	@flock .build/web.lock node scripts/web.mjs

wasm: ## Compile the core for web pages into .build/wasm/hypha.wasm.
	@scripts/setup wasm
	@mkdir -p .build
	@flock .build/web.lock scripts/wasm

run: build ## Start a node in the foreground, its state in .run/. A second one: make run NODE=two PORT=8081
	@scripts/run

test: setup lint check web ## Build, check and test everything.
	@scripts/test

fuzz: setup ## Give every decoder bytes that are made up, FUZZ=60 seconds each. Some of them: make fuzz TARGETS="http rpc"
	@scripts/fuzz $(FUZZ) $(TARGETS)

sanitize: setup ## Run the tests with AddressSanitizer, and again with ThreadSanitizer: an hour or so.
	@scripts/setup test
	@scripts/sanitize address
	@scripts/sanitize thread

conformance: setup ## Run the WebSocket cases of the Autobahn test suite against the daemon's handlers.
	@scripts/setup test
	$(SWIFT) build --product websocket-echo
	$(PYTHON) Tests/WebSocket/conformance.py .build/debug/websocket-echo

torture: setup ## Look for what can be lost, TORTURE=60 minutes long; a seed that it prints does the same again: SEED=...
	@scripts/setup test
	$(SWIFT) build --build-tests
	@scripts/torture $(TORTURE) $(SEED)

check: setup ## Check that programs, manual pages and documents say the same.
	$(SWIFT) build
	@scripts/check

deb: ## Build the Debian packages into dist/.
	@scripts/setup wasm
	@scripts/setup deb
	@scripts/deb

test-system: deb ## As root: install the packages in a minimal Debian 12, boot it with systemd, and check the service.
	@scripts/setup system
	Tests/System/boot

bench: setup ## Measure; prints a table and writes dist/bench.json. With BENCH, without the browser.
	@mkdir -p dist
	$(SWIFT) build -c release --product hypha-bench
	.build/release/hypha-bench --folder dist --json dist/bench.json $(BENCH)
	$(if $(BENCH),,@$(MAKE) --no-print-directory bench-browser)

bench-browser: setup web ## Measure the web client in Chromium, and add that to dist/bench.json.
	@scripts/setup test
	@mkdir -p dist
	$(SWIFT) build -c release --product hyphad
	$(SWIFT) build -c release --product hyphactl
	$(PYTHON) Benchmarks/browser.py --json dist/bench.json

screenshots: build ## Pictures of every view of the web client, in dist/screenshots.
	@scripts/setup test
	$(PYTHON) Tests/Browser/screenshots.py

format: ## Format the Swift sources.
	$(SWIFT) format -i -r $(SOURCES)

lint: ## Check the format of the Swift sources.
	$(SWIFT) format lint --strict -r $(SOURCES)

clean: ## Remove what was built. Nodes' state in .run/ stays.
	rm -rf .build dist

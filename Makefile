# `make help` lists the targets. What they build goes to a cache outside of the clone; nothing is installed into the system
# but by `make setup`, which `make test` runs.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Tools, pinned. A new version is built once, into a folder of its own.
GOLANGCI_LINT_VERSION := v2.15.0
GOVULNCHECK_VERSION := v1.9.0

export LATENT_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/latent-engine
TOOLS := $(LATENT_CACHE)/tools
GOLANGCI_LINT := $(TOOLS)/golangci-lint-$(GOLANGCI_LINT_VERSION)/golangci-lint
# The Buildbot of the test environment.
BUILDBOT := $(or $(LATENT_TEST_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/latent-engine/testenv)/$(shell awk '$$1 == "buildbot-venv" { print $$1 "-" $$3 "-" $$4 }' internal/testenv/pins.txt)

# What the binary is built for. Every one must compile; the tests run on the machine's own.
PLATFORMS := linux/amd64 linux/arm64 darwin/arm64 windows/amd64
# A lone linker or test binary takes about 1 GB with the race detector: no more of them than this machine has processors.
TEST_PROCESSES ?= 2
TEST_TIMEOUT ?= 20m
FUZZ_TIME ?= 20s
BENCH_ROUNDS ?= 7
BENCH_OUT ?= $(LATENT_CACHE)/bench.txt

## Commands

.PHONY: help
help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Show the main job: render, start, watch and remove a worker on a Docker Engine.
	@scripts/demo.sh

.PHONY: test
test: ## Set up what is needed and run everything, on real Docker Engines; fails on what was skipped where CI=true.
	@scripts/test.sh

.PHONY: test-buildbot
test-buildbot: ## Test the Buildbot package alone: linters, unit tests and real masters.
	@scripts/test-buildbot.sh

.PHONY: unit
unit: ## Run the tests that need nothing, and say which were left out.
	@go run ./internal/testreport -strict=false -- ./...

.PHONY: build
build: ## Build bin/latent-engine.
	CGO_ENABLED=0 go build -trimpath -ldflags="$$(go run ./internal/dist -ldflags)" -o bin/latent-engine ./cmd/latent-engine

.PHONY: dist
dist: ## Make the archives of a release and their checksums in dist/: the same commit gives the same bytes.
	@go run ./internal/dist

.PHONY: platforms
platforms: ## Build the command for every platform that it is for, and throw the result away.
	@for platform in $(PLATFORMS); do \
		echo "go build $$platform"; \
		GOOS=$${platform%/*} GOARCH=$${platform#*/} CGO_ENABLED=0 go build -o /dev/null ./cmd/latent-engine; \
	done

.PHONY: check
check: $(GOLANGCI_LINT) ## Formatting, vet, linters, go.mod and generated files: everything but tests. Changes nothing.
	@echo "go vet"; go vet ./... && go vet -tags=integration ./...
	@echo "golangci-lint"; $(GOLANGCI_LINT) run ./...
	@echo "go mod tidy"; go mod tidy -diff
	@echo "generated documents"; go run ./internal/docgen -check

.PHONY: format
format: $(GOLANGCI_LINT) ## Format the code.
	$(GOLANGCI_LINT) fmt

.PHONY: docs
docs: ## Write the generated part of docs/ anew.
	@go run ./internal/docgen

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZ_TIME (20s).
	@grep -rlE '^func Fuzz' --include='*_test.go' . | sort | while read -r file; do \
		sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' "$$file" | while read -r target; do \
			go test "$$(dirname "$$file")" -run='^$$' -fuzz="^$$target\$$" -fuzztime=$(FUZZ_TIME); \
		done; \
	done

.PHONY: bench
bench: buildbot ## Measure against Buildbot, bare CEL and the raw client; the table goes to BENCH_OUT too.
	@go run ./internal/bench -python $(BUILDBOT)/bin/python -rounds $(BENCH_ROUNDS) -out $(BENCH_OUT)

.PHONY: vuln
vuln: ## Look for known vulnerabilities in what we import (asks vuln.go.dev).
	go run golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION) ./...

.PHONY: setup
setup: ## Install and build what the tests run against (root on Debian or Ubuntu; prints nothing when all is there).
	@scripts/setup.sh

.PHONY: buildbot
buildbot: ## Install the Buildbot that docs/from-buildbot.md, the benchmarks and the Buildbot package are held against.
	@internal/testenv/install.sh buildbot-venv

$(GOLANGCI_LINT):
	@echo "building golangci-lint $(GOLANGCI_LINT_VERSION), which takes minutes when it is the first time"
	@log=$$(mktemp); GOFLAGS= GOBIN=$(@D) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION) \
		2>"$$log" || { cat "$$log" >&2; exit 1; }; rm -f "$$log"

.PHONY: clean
clean: ## Remove what was built in the tree (the cache stays; it is in LATENT_CACHE).
	rm -rf bin dist bench.txt

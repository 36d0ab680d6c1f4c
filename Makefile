# Every command that the project is worked on with. `make` alone lists them.

GOTOOL   = go tool -modfile=tools/go.mod
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

# How long a benchmark runs and how much a fuzz target tries. The fuzzing budget is a count: go test's own end of a
# time budget fails now and then without a finding (golang/go#75804, mended in Go 1.27).
BENCHTIME ?= 1s
FUZZTIME  ?= 1000000x

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help test check fmt fmt-check lint tidy-check deadcode vulncheck licences race bench fuzz mutations screenshots build tools clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: ## install what the tests need and run every test
	@scripts/install-test-tools
	go test -timeout=30m ./...

check: BENCHTIME = 1x
check: FUZZTIME = 50000x
check: fmt-check tidy-check lint deadcode vulncheck licences race bench fuzz ## run all checks: formatters, linters, race detector, benchmarks once, short fuzzing

fmt: ## format every Go file
	$(GOTOOL) golangci-lint fmt

fmt-check: ## fail where fmt would change a file
	$(GOTOOL) golangci-lint fmt --diff

tidy-check: ## fail where go mod tidy would change a module
	go mod tidy -diff
	go -C tools mod tidy -diff

lint: ## run go vet and the linters of .golangci.yml
	go vet ./...
	$(GOTOOL) golangci-lint config verify
	$(GOTOOL) golangci-lint run

deadcode: ## fail on functions that nothing reaches
	scripts/deadcode

vulncheck: ## look for known vulnerabilities, where their database can be reached
	scripts/vulncheck

licences: ## fail on a dependency whose licence is not on the list
	scripts/licences

race: ## run the tests under the race detector, in shuffled order, but for those that drive a browser
	@scripts/install-test-tools gcc
	CGO_ENABLED=1 go test -race -shuffle=on -timeout=30m $$(go list ./... | grep -v /browsertest)

bench: ## run every benchmark (BENCHTIME=1s)
	scripts/packages-with Benchmark | xargs -r go test -run='^$$' -bench=. -benchmem -benchtime=$(BENCHTIME)

fuzz: ## run every fuzz target (FUZZTIME=1000000x)
	scripts/fuzz $(FUZZTIME)

mutations: ## take out one guard after another, and see that a test misses it
	scripts/mutations

screenshots: ## take the pictures of docs/images anew, in a browser
	@scripts/install-test-tools
	mkdir -p docs/images
	go test ./internal/browsertest -count=1 -run='^TestScreenshots' -screenshots="$(CURDIR)/docs/images"

build: ## build the static binary bin/postrider
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/postrider ./cmd/postrider

tools: ## download and build the pinned tools
	@$(GOTOOL) | grep / | while read -r tool; do $(GOTOOL) -n $$tool; done

clean: ## remove what build has made
	rm -rf bin

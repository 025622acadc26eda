# `make` builds, `make help` lists the targets. CI runs `make test`.
GO          ?= go
export GO
FUZZTIME    ?= 10s
OLDER       ?= e45f7b0 6857f65
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FAULTS      ?= TestHostVanishes|TestCutOff|TestSpareGoesOn|TestClientUnheard|TestPartition|TestPartitionIPv6|TestTwoHosts|TestTwoHostsIPv6|TestArbiterClockJumps|TestFullDisk|TestAilingDisk
VERSION     := $(shell git -c safe.directory='*' describe --tags --always --dirty 2>/dev/null || echo unknown)

.DEFAULT_GOAL := build
.PHONY: help build demo test verify race fuzz sim e2e mixed faults bare bench scale churn rest back mutants microbench deps generate lint fmt tidy clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## compile bin/meshcrypt
	@.ci/go >/dev/null
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-X main.version=$(VERSION)' -o bin/meshcrypt ./cmd/meshcrypt

demo: build ## a mesh, a client, a kill -9 and a verdict, on this machine, without root
	./bin/meshcrypt demo

test: ## all tests, with the minutes of each part
	@.ci/test

verify: fmt lint tidy generate race ## everything a change must pass before it is merged
	@git diff --exit-code --stat || { echo 'make verify: the steps above changed files; commit or undo them'; exit 1; }
	@echo 'make verify: passed'

race: deps ## all tests under the race detector
	$(GO) test -race -exec '$(CURDIR)/.ci/with' ./...

fuzz: ## every fuzz target for FUZZTIME (10s)
	@.ci/with .ci/fuzz $(FUZZTIME)

sim: whole-SEEDS whole-FIRST ## the control plane in virtual time, SEEDS (300) of them from FIRST (1) on; TRACE=1 shows what was decided
	$(GO) test -count=1 -timeout 0 ./e2e/sim -run '^TestSeeds$$' $(if $(TRACE),-v) -seeds $(or $(SEEDS),300) -first $(or $(FIRST),1) $(if $(TRACE),-traced) $(SIM)

e2e: build deps ## real processes in namespaces of their own, and the whole matrix
	MESHCRYPT_E2E_MATRIX=all .ci/with go test -p 1 -tags e2e -count=1 -timeout 90m -v ./e2e/...

mixed: deps ## earlier builds and this one in one mesh, and a rolling upgrade (OLDER='e45f7b0 6857f65')
	.ci/with .ci/mixed $(OLDER)

faults: whole-TRIES build deps ## what hosts cost that say no goodbye: TRIES (20) of each fault, medians and worst beside what they may
	MESHCRYPT_E2E_MATRIX=all MESHCRYPT_E2E_TRIES=$(or $(TRIES),20) .ci/with go test -p 1 -parallel 1 -tags e2e -count=1 -timeout 12h -v \
		-run '^($(FAULTS))$$' ./e2e/netns

bare: ## the demo and all tests in a Debian 12 minimal tree, as root
	@.ci/bare

bench: deps ## throughput and CPU beside wireguard-go (BENCH='-must -modes veth,wire')
	.ci/with go run ./e2e/perf $(BENCH)

scale: ## what the control plane costs in meshes of 3 and 1,000 nodes, 1,000 to 100,000 sessions (SCALE='-times 50')
	$(GO) run ./e2e/scale $(SCALE)

churn: whole-MINUTES build deps ## clients log in and out at 5/s for MINUTES (30), a third by kill -9; what nodes hold must not grow
	.ci/with go run ./e2e/load -what churn -minutes $(or $(MINUTES),30) $(CHURN)

rest: whole-CLIENTS build deps ## CLIENTS (10000) rest: memory of each node, by session, beside what it may be
	.ci/with go run ./e2e/load -what rest -clients $(or $(CLIENTS),10000) $(REST)

back: whole-CLIENTS build deps ## CLIENTS (10000) are back after a restart of all nodes: CPU of all nodes
	.ci/with go run ./e2e/load -what back -clients $(or $(CLIENTS),10000) $(BACK)

mutants: deps ## turn guards off, one at a time: do the tests notice? (MUTANTS='-seed 2 -draw 100')
	.ci/with go run ./e2e/mutants $(MUTANTS)

microbench: deps ## benchmarks of all packages
	.ci/with go test -run '^$$' -bench . -benchmem ./...

whole-%:
	@.ci/whole $* '$($*)'

deps: ## install the programs that tests and bench start (.ci/programs)
	@.ci/deps

generate: ## rebuild generated files
	$(GO) generate ./...

lint: ## vet and staticcheck
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

fmt: ## fail on files that gofmt would change
	@files=$$(gofmt -l .); test -z "$$files" || { echo "run gofmt -w on: $$files"; exit 1; }

tidy: ## fail when go.mod is not what the imports ask for
	$(GO) mod tidy -diff

clean: ## remove what build made
	rm -rf bin

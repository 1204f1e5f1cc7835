# bake: an image in, one executable out, a microVM that runs it.
#
# make demo and make test need nothing set up first: they install what is missing (apt, by root or sudo), build, and say
# what they do. make build alone needs only Go.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/bake
# scripts/go.sh puts a Go here when the machine has none.
export PATH := $(PATH):$(CACHE)/go/current/bin
export CACHE

ARCH := $(subst aarch64,arm64,$(subst x86_64,amd64,$(shell uname -m)))
GO ?= go
# Tests send SIGHUP to programs that they start, and nohup(1) would have those ignore it.
GOTEST := env --default-signal=HUP $(GO) test
VERSION ?= $(or $(shell git describe --tags --always --dirty 2>/dev/null),devel)
# The same source gives the same bytes: no paths, no build ID, no cgo.
GOBUILD := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-s -w -buildid= -X main.version=$(VERSION)'
ARCHES := amd64 arm64
HOST_BINARIES := bin/bake $(ARCHES:%=bin/bake-app-linux-%)
AGENTS := $(ARCHES:%=bin/bake-agent-%)

say = @printf '== %s\n' "$(1)"

## help: this list
.PHONY: help
help:
	@sed -nE 's/^## ([^:]+): (.*)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS=$$'\t' read -r target text; do \
		printf '  make %-14s %s\n' "$$target" "$$text"; done

## deps: install what make demo and make test need and this machine lacks (apt, as root or with sudo)
.PHONY: deps deps-go
deps: deps-go
	@scripts/deps.sh runc-amd64 runc-arm64 demo test
deps-go:
	@scripts/go.sh
deps-%: deps-go
	@scripts/deps.sh $*

## build: bin/bake, the carriers and the agents (needs only Go)
.PHONY: build $(HOST_BINARIES) $(AGENTS)
build: $(HOST_BINARIES) $(AGENTS)
	$(call say,built $^)
# Go knows better than make what is up to date, so these always run; they take a second when nothing changed.
bin/bake: deps-go
	$(call say,building $@)
	@$(GOBUILD) -o $@ ./cmd/bake
$(ARCHES:%=bin/bake-app-linux-%): bin/bake-app-linux-%: deps-go
	$(call say,building $@)
	@GOOS=linux GOARCH=$* $(GOBUILD) -o $@ ./cmd/bake-app
$(AGENTS): bin/bake-agent-%: deps-go
	$(call say,building $@)
	@GOOS=linux GOARCH=$* $(GOBUILD) -o $@ ./cmd/bake-agent

## runc: bin/runc-amd64 and bin/runc-arm64, static, from the pinned module (cached)
.PHONY: runc $(ARCHES:%=bin/runc-%)
runc: $(ARCHES:%=bin/runc-%)
$(ARCHES:%=bin/runc-%): bin/runc-%: deps-runc-%
	@scripts/runc.sh $* $@

## initrd: bin/initrd-amd64.cpio and bin/initrd-arm64.cpio
.PHONY: initrd $(ARCHES:%=bin/initrd-%.cpio)
initrd: $(ARCHES:%=bin/initrd-%.cpio)
$(ARCHES:%=bin/initrd-%.cpio): bin/initrd-%.cpio: bin/bake bin/bake-agent-% bin/runc-%
	$(call say,packing $@)
	@bin/bake initrd --agent bin/bake-agent-$* --runc bin/runc-$* -o $@

## kernel: the guest kernel of this machine's architecture, compiled once (20 CPU-minutes) and then cached
## kernel-amd64: the guest kernel for amd64, cross-compiled where needed
## kernel-arm64: the guest kernel for arm64, cross-compiled where needed
.PHONY: kernel kernel-amd64 kernel-arm64
kernel: kernel-$(ARCH)
kernel-amd64 kernel-arm64: kernel-%:
	@kernel/build.sh $* --print-dir >/dev/null 2>&1 || scripts/deps.sh kernel-$*
	@kernel/build.sh $*

## kernel-debian: Debian's cloud kernel, downloaded with apt (not installed) and imported
.PHONY: kernel-debian
kernel-debian: bin/bake
	@scripts/kernel-debian.sh $(ARCH)

# A kernel to boot: ours when it is compiled already, Debian's when not.
.PHONY: kernel-any
kernel-any: bin/bake
	@if dir=$$(kernel/build.sh $(ARCH) --print-dir 2>/dev/null); then echo "== kernel: bake's own, $$dir"; \
	else echo "== kernel: bake's own is not compiled (make kernel), taking Debian's"; scripts/kernel-debian.sh $(ARCH); fi

## demo: pack a Debian with redis into ./redis-demo, boot it and talk to it
.PHONY: demo
demo:
	@MAKE='$(MAKE)' scripts/demo.sh

## test: all that must pass: vet on four targets, unit tests with -race, end to end in real VMs
.PHONY: test test-vet test-unit test-e2e
test: test-vet test-unit test-e2e
	$(call say,all tests passed)
test-vet: deps-go
	@for target in linux/amd64 linux/arm64 darwin/amd64 darwin/arm64; do \
		echo "== vet $$target"; \
		CGO_ENABLED=0 GOOS=$${target%/*} GOARCH=$${target#*/} $(GO) vet ./...; \
	done
# Drivers are tested against a VM in their unit tests, so these need a kernel too.
test-unit: deps-test kernel-any bin/runc-$(ARCH)
	$(call say,unit tests with the race detector)
	@eval "$$(scripts/test-env.sh ours $(ARCH))"; \
	CGO_ENABLED=1 $(GOTEST) -race -timeout 15m $$($(GO) list ./... | grep -v '/test\(/\|$$\)')
# What differs with the kernel: modules, disks, vsock, namespaces, terminals, how it ends.
DEBIAN_TESTS := ^Test(Echo|StreamsAreApart|EndsOfCommands|Container|Users|Terminal|Failures)$$
test-e2e: deps-test build initrd kernel-debian
	$(call say,end to end: the agent in real guests)
	@eval "$$(scripts/test-env.sh ours $(ARCH))"; $(GOTEST) -count=1 -timeout 20m -tags boot ./internal/agent/boottest
	$(call say,end to end: the agent on a distribution kernel with modules)
	@eval "$$(scripts/test-env.sh debian $(ARCH))"; $(GOTEST) -count=1 -timeout 15m -tags boot -run '$(DEBIAN_TESTS)' ./internal/agent/boottest
	$(call say,end to end: apps of real images in real VMs)
	@scripts/kubernetes-schema.sh >/dev/null; for set in redis-server net volumes copy; do scripts/rootfs.sh $$set >/dev/null; done
	@eval "$$(scripts/test-env.sh ours $(ARCH))"; $(GOTEST) -count=1 -timeout 45m ./test/...

## bench: measure against the peers in the same run; BENCH="output open idle vsock net files pack" chooses
BENCH ?=
.PHONY: bench
bench: deps-test deps-bench build initrd kernel-any
	$(call say,benchmarks: figures of a busy machine are not worth much)
	@eval "$$(scripts/test-env.sh ours $(ARCH))"; $(GO) run ./test/bench $(BENCH)

## storm: kills an app 100 times, spread over the phases of its life, and runs 50 instances at once
.PHONY: storm
storm: deps-test build initrd kernel-any
	@eval "$$(scripts/test-env.sh ours $(ARCH))"; BAKE_TEST_STORM_KILLS=100 BAKE_TEST_STORM_INSTANCES=50 \
		$(GOTEST) -count=1 -timeout 30m -run 'TestScripts/storm$$' -v ./test

## soak: fsx and fio --verify on each kind of volume, SOAK rounds of each (60: a quarter of an hour a kind without KVM)
SOAK ?= 60
.PHONY: soak
soak: deps-test build initrd kernel-any
	@eval "$$(scripts/test-env.sh ours $(ARCH))"; scripts/soak.sh $(SOAK)

## fuzz-short: each fuzz target for FUZZTIME (10s)
FUZZTIME ?= 10s
.PHONY: fuzz-short
fuzz-short: deps-go
	@scripts/fuzz.sh $(FUZZTIME)

## clean: remove bin/ and the demo; the cache (kernels, root filesystems) stays
.PHONY: clean
clean:
	$(call say,removing bin/ and redis-demo)
	@rm -rf bin redis-demo

# pmemctl: volumes from persistent memory. `make help` lists the targets.

prefix  ?= /usr/local
DESTDIR ?=
VERSION ?= 0.1.0-dev

GO      ?= go
LDFLAGS := -X github.com/pmemctl/pmemctl/internal/cli.Version=$(VERSION)
# Built files go here; nothing else in the tree is written.
BUILD   := build
FUZZTIME ?= 5m
# The commit from which the tests upgrade.
PREVIOUS := ef86a54f5827ee612a607b5cf3169a81b0805e96
# Without it each component reports v0.0.0, which the others refuse.
KUBE_VERSION := -X k8s.io/component-base/version.gitVersion=v1.36.3 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36

.DEFAULT_GOAL := help

##@ Use

demo: deps build $(BUILD)/pmemlab $(BUILD)/csiclient ## run the main job on a real kernel, in a guest (3 minutes)
	$(BUILD)/pmemlab -path $(CURDIR)/$(BUILD) scripts/demo.sh

demo-cxl: deps build $(BUILD)/pmemlab ## CXL memory: regions, volumes, a power cut, and back (2 minutes)
	scripts/demo-cxl.sh

demo-k8s: deps image kubernetes $(BUILD)/pmemcluster ## the same on a real Kubernetes: Alibaba Cloud's page, step by step
	@scripts/deps.sh kubernetes
	$(BUILD)/pmemcluster -nodes 2 scripts/demo-k8s.sh

# Without gRPC's trace pages the linker can omit a sixth of the program.
build: ## build pmemctl
	$(GO) build -trimpath -tags grpcnotrace -ldflags '$(LDFLAGS)' -o $(BUILD)/pmemctl ./cmd/pmemctl

image: build ## build the container image, as an OCI archive: build/pmemctl-image.tar
	@scripts/deps.sh image
	@scripts/image.sh $(BUILD)/pmemctl $(VERSION) $(BUILD)/pmemctl-image.tar

install: ## install pmemctl, its man pages and completions (DESTDIR=, prefix=)
	install -D -m 755 $(BUILD)/pmemctl $(DESTDIR)$(prefix)/sbin/pmemctl
	install -d $(DESTDIR)/sbin
	ln -sf $(prefix)/sbin/pmemctl $(DESTDIR)/sbin/mount.pmemctl
	install -d $(DESTDIR)$(prefix)/share/man/man8
	install -m 644 man/*.8 $(DESTDIR)$(prefix)/share/man/man8/
	install -D -m 644 completions/pmemctl.bash $(DESTDIR)$(prefix)/share/bash-completion/completions/pmemctl
	install -D -m 644 completions/_pmemctl $(DESTDIR)$(prefix)/share/zsh/site-functions/_pmemctl
	install -D -m 644 completions/pmemctl.fish $(DESTDIR)$(prefix)/share/fish/vendor_completions.d/pmemctl.fish
	install -D -m 644 -t $(DESTDIR)$(prefix)/lib/udev/rules.d deploy/host/12-pmemctl.rules deploy/host/98-pmemctl.rules
	install -D -m 644 deploy/host/lvmlocal.conf $(DESTDIR)$(prefix)/share/doc/pmemctl/lvmlocal.conf
	install -D -m 755 deploy/host/initramfs-hook $(DESTDIR)$(prefix)/share/initramfs-tools/hooks/pmemctl
	install -D -m 644 deploy/host/dracut.conf $(DESTDIR)$(prefix)/lib/dracut/dracut.conf.d/90-pmemctl.conf
	@echo 'next: pmemctl host setup (LVM and the initramfs), then pmemctl host check'

lab: deps build $(BUILD)/pmemlab ## a shell in the guest, with pmemctl on PATH (leave it with: exit)
	$(BUILD)/pmemlab -path $(CURDIR)/$(BUILD)

##@ Test

test: deps lint test-unit test-guest ## lint, unit tests, and tests that need a kernel, in guests (at most 20 minutes)

# Kubernetes is built in parallel with the guest tests, which leave one CPU idle.
test-rest: deps ## the most important of what make test omits; CI runs both
	@scripts/deps.sh image kubernetes
	$(MAKE) -j 2 test-guest-rest kubernetes
	$(MAKE) test-k8s-short

test-all: test ## make test and all that it omits, with the full Kubernetes tests
	@scripts/deps.sh image kubernetes
	$(MAKE) -j 2 test-guest-all kubernetes
	$(MAKE) test-k8s

test-unit: ## unit tests, with the race detector, and without cgo
	$(GO) test -race ./...
	CGO_ENABLED=0 $(GO) test ./internal/...

GUESTS = $(GO) test -tags lab -count=1 -timeout 4h -v ./test/guests

test-guest: build guest-tests ## integration tests on a real kernel, in QEMU guests
	$(GUESTS)

test-guest-rest: build guest-tests ## the other integration tests that CI runs
	PMEMCTL_REST=1 $(GUESTS)

test-guest-all: build guest-tests ## all integration tests that make test omits
	PMEMCTL_REST=all $(GUESTS)

test-k8s-short: deps image kubernetes ## a driver and volumes of both types on a real Kubernetes, an upgrade, takeovers, deletion
	@scripts/deps.sh kubernetes
	$(GO) test -tags lab -count=1 -timeout 1h -v -run '^TestMany$$/^(deploy|former driver|metrics|both types on one node|upgrade|adopt|delete)$$' ./test/kubernetes

test-k8s: deps image kubernetes ## the full Kubernetes tests: the page, more claims than room, pods created and deleted
	@scripts/deps.sh kubernetes
	$(GO) test -tags lab -count=1 -timeout 4h -v ./test/kubernetes

test-k8s-pods: deps image kubernetes ## create and delete 50 pods with volumes, three times
	@scripts/deps.sh kubernetes
	PMEMCTL_PODS=50 PMEMCTL_ROUNDS=3 $(GO) test -tags lab -count=1 -timeout 4h -v -run '^TestMany$$/(deploy|former|both|pods|upgrade|delete)' ./test/kubernetes

test-crash: build guest-tests ## kill -9 at every step of every operation
	PMEMCTL_CRASH=all $(GUESTS) -run '^TestGuests$$/^(crash|old_data)$$'

test-powercut: build guest-tests ## 100 power cuts of a guest under load
	PMEMCTL_CUTS=100 $(GUESTS) -run '^TestGuests$$/^power_cut$$'

test-flush: build guest-tests ## a medium that loses unflushed data: many prefixes of the writes
	PMEMCTL_FLUSH=all $(GUESTS) -run '^TestGuests$$/^flush$$'

test-stress: build guest-tests ## 32 CSI clients for 10 minutes
	PMEMCTL_STRESS=10m $(GUESTS) -run '^TestGuests$$/^stress$$'

fuzz: ## run each fuzz test for FUZZTIME (default 5m); go test runs their seeds
	@for pkg in $$(grep -rl 'func Fuzz' internal --include='*_test.go' | xargs -n1 dirname | sort -u); do \
		for f in $$(grep -ho 'func Fuzz[A-Za-z0-9]*' $$pkg/*_test.go | cut -c6-); do \
			echo "fuzz: $$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) ./$$pkg || exit 1; \
		done; \
	done

bench: deps build $(BUILD)/pmemlab $(BUILD)/csiclient ## compare the speed with the bare commands, as ratios, in the guest
	$(BUILD)/pmemlab -path $(CURDIR)/$(BUILD) scripts/bench.sh

bench-sizes: deps build $(BUILD)/pmemlab $(BUILD)/csiclient ## check whether create, expand and delete take the same time for any size, in a guest with large DIMMs
	$(BUILD)/pmemlab -dimms large -path $(CURDIR)/$(BUILD) -env BENCH_PARTS='sizes large quiet' scripts/bench.sh

bench-huge: deps build $(BUILD)/pmemlab ## one create, expand and delete on 768 GiB, in a guest with a sparse DIMM; needs 30 GB of disk
	dir=$$(mktemp -d -p $(BUILD)) && trap "rm -rf $$dir" EXIT && $(BUILD)/pmemlab -dimms huge -dir "$$dir" -path $(CURDIR)/$(BUILD) -env BENCH_PARTS=huge scripts/bench.sh

bench-k8s: deps image kubernetes $(BUILD)/pmemcluster ## time from a claim to a running pod, compared with hostPath volumes
	@scripts/deps.sh kubernetes
	$(BUILD)/pmemcluster -nodes 1 -dimm $(or $(BENCH_DIMM),2) scripts/bench-k8s.sh

lint: ## gofmt, go vet, staticcheck, shellcheck
	@test -z "$$(gofmt -l cmd internal test)" || { echo "gofmt these:"; gofmt -l cmd internal test; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags 'guest faultpoints' ./internal/... ./test/integration
	$(GO) vet -tags lab ./test/guests ./test/kubernetes
	$(GO) tool staticcheck ./...
	$(GO) tool staticcheck -tags guest,faultpoints ./internal/... ./test/integration
	$(GO) tool staticcheck -tags lab ./test/guests ./test/kubernetes
	shellcheck $$(git ls-files '*.sh' .ci/run)

##@ Work

generate: ## regenerate man pages and completions
	$(GO) run ./internal/cli/gendocs man completions

deps: ## install missing Debian packages
	@scripts/deps.sh

guest-tests: $(BUILD)/pmemlab $(BUILD)/guest/pmemctl-previous
	$(GO) test -c -tags 'guest faultpoints' -o $(BUILD)/guest/integration.test ./test/integration
	$(GO) test -c -tags guest -o $(BUILD)/guest/dax.test ./internal/dax
	$(GO) test -c -tags guest -o $(BUILD)/guest/ndctl.test ./internal/ndctl
	$(GO) build -tags faultpoints -o $(BUILD)/guest/pmemctl-faultpoints ./cmd/pmemctl
	CGO_ENABLED=0 $(GO) build -C test/csisanity -o $(CURDIR)/$(BUILD)/guest/ tool

# The version from which TestUpgrade upgrades.
$(BUILD)/guest/pmemctl-previous: scripts/previous.sh Makefile
	GO='$(GO)' scripts/previous.sh $(PREVIOUS) $@

$(BUILD)/pmemlab: FORCE
	$(GO) build -o $@ ./test/lab/cmd/pmemlab

# 5 to 11 minutes the first time, on two cores.
kubernetes: ## build Kubernetes for the lab's cluster, from source
	@mkdir -p $(BUILD)/kubernetes
	cd test/lab/kubernetes && CGO_ENABLED=0 nice -n 19 $(GO) build -trimpath -ldflags '-s -w $(KUBE_VERSION)' -o $(CURDIR)/$(BUILD)/kubernetes/ tool

$(BUILD)/pmemcluster: FORCE
	$(GO) build -o $@ ./test/lab/cmd/pmemcluster

$(BUILD)/csiclient: FORCE
	$(GO) build -o $@ ./test/csiclient

clean: ## remove what was built
	rm -rf $(BUILD)

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s:\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

FORCE:
.PHONY: demo demo-cxl demo-k8s build image kubernetes install lab test test-rest test-all test-unit test-guest test-guest-rest test-k8s test-k8s-short test-k8s-pods test-crash test-powercut test-flush test-stress fuzz bench bench-sizes bench-huge bench-k8s lint generate deps guest-tests clean help FORCE

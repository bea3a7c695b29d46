# make help lists the targets. Every long step says what it does.

PREFIX  ?= /usr
DESTDIR ?=
CACHE   ?= $(CURDIR)/.cache
GO      ?= $(shell command -v go || echo /usr/local/go/bin/go)
VERSION ?= $(shell git -c safe.directory='*' describe --tags --always --dirty 2>/dev/null || echo unknown)

TAGS    := containers_image_openpgp containers_image_storage_stub containers_image_docker_daemon_stub nri_no_wasm seccomp
LDFLAGS := -s -w -X main.version=$(VERSION)
BUILD   := $(GO) build -buildvcs=false -trimpath -tags '$(TAGS)' -ldflags '$(LDFLAGS)'

# The shim is executed for every container and every exec: static, since ld.so
# would take its time again and again, and small.
SHIM       ?= bin/criruntime-shim
CHECKPOINT ?= bin/criruntime-checkpoint
BUILD_SHIM := CGO_ENABLED=1 $(GO) build -buildvcs=false -trimpath -tags seccomp,netgo,osusergo \
	-gcflags=google.golang.org/protobuf/...=-l -gcflags=github.com/vishvananda/netlink/...=-l \
	-gcflags=github.com/cilium/ebpf/...=-l -gcflags=github.com/godbus/dbus/...=-l -ldflags '-s -w -funcalign=16 -extldflags -static'

export PATH := $(dir $(GO)):$(PATH):/usr/sbin:/sbin
export CRIRUNTIME_CACHE := $(CACHE)

# The adapter is executed for every pod of another runtime, and is the process of
# its sandbox container.
BUILD_ADAPTER := CGO_ENABLED=0 $(GO) build -buildvcs=false -trimpath -tags netgo,osusergo,no_grpc -ldflags '-s -w'

.PHONY: build shim checkpoint install uninstall deps tools unit kernel-test critest critest-thrice test e2e e2e-conformance gvisor vm demo bench fmt clean help
.DEFAULT_GOAL := build

build: shim checkpoint ## build bin/criruntime, bin/criruntime-shim, -adapter and -checkpoint
	@echo "==> building bin/criruntime-adapter"
	@$(BUILD_ADAPTER) -o bin/criruntime-adapter ./cmd/criruntime-adapter
	@echo "==> building bin/criruntime ($(VERSION))"
	@CGO_ENABLED=0 $(BUILD) -o bin/criruntime ./cmd/criruntime

shim: ## build the shim alone (SHIM: where to)
	@echo "==> building $(SHIM)"
	@$(BUILD_SHIM) -o $(SHIM) ./cmd/criruntime-shim

checkpoint: ## build what the shim starts for checkpoints alone (CHECKPOINT: where to)
	@echo "==> building $(CHECKPOINT)"
	@$(BUILD_SHIM) -o $(CHECKPOINT) ./cmd/criruntime-checkpoint

# What install puts where: source, mode, destination.
define FILES
bin/criruntime                        0755 $(PREFIX)/bin/criruntime
bin/criruntime-shim                   0755 $(PREFIX)/bin/criruntime-shim
bin/criruntime-adapter                0755 $(PREFIX)/bin/criruntime-adapter
bin/criruntime-checkpoint             0755 $(PREFIX)/bin/criruntime-checkpoint
contrib/systemd/criruntime.service    0644 /lib/systemd/system/criruntime.service
contrib/man/criruntime.8              0644 $(PREFIX)/share/man/man8/criruntime.8
contrib/man/criruntime.toml.5         0644 $(PREFIX)/share/man/man5/criruntime.toml.5
contrib/completions/criruntime.bash   0644 $(PREFIX)/share/bash-completion/completions/criruntime
contrib/crictl.yaml                   0644 $(PREFIX)/share/doc/criruntime/crictl.yaml
contrib/cni/10-criruntime.conflist    0644 $(PREFIX)/share/doc/criruntime/10-criruntime.conflist
endef
export FILES

install: ## install binaries, unit, man pages and configuration (DESTDIR, PREFIX)
	@test -x bin/criruntime || { echo "run make build first"; exit 1; }
	@echo "$$FILES" | while read -r source mode target; do \
		echo "$(DESTDIR)$$target"; install -D -m "$$mode" "$$source" "$(DESTDIR)$$target" || exit 1; done
	@install -d $(DESTDIR)/etc/criruntime
	@test -e $(DESTDIR)/etc/criruntime/criruntime.toml || { echo "$(DESTDIR)/etc/criruntime/criruntime.toml"; \
		bin/criruntime config default >$(DESTDIR)/etc/criruntime/criruntime.toml; }

uninstall: ## remove what install put there, except the configuration
	@echo "$$FILES" | while read -r source mode target; do \
		echo "removing $(DESTDIR)$$target"; rm -f "$(DESTDIR)$$target"; done

deps: ## install what building and testing need of Debian (root)
	@echo "==> Debian packages"
	@test/tools/packages.sh $(CACHE)

tools: ## build the registry, CNI plugins, crictl, critest, ginkgo and staticcheck into the cache
	@echo "==> tools"
	@test/tools/build.sh $(CACHE)

unit: ## vet, staticcheck and the unit tests under the race detector
	@$(GO) run -buildvcs=false ./test/run vet staticcheck unit

kernel-test: build ## the packages' tests on the real kernel (root)
	@$(GO) run -buildvcs=false ./test/run kernel

critest: deps tools build ## the CRI's conformance suite (root)
	@$(GO) run -buildvcs=false ./test/run critest

critest-thrice: deps tools build ## the same three times in random order, and once with -parallel (root)
	@$(GO) run -buildvcs=false ./test/run critest-thrice critest-parallel

test: deps tools build ## everything: the above, the whole system, crashes and leaks (root)
	@$(GO) run -buildvcs=false ./test/run all

e2e: deps tools build ## a real Kubernetes node, from kubectl apply to status (root)
	@echo "==> Kubernetes"
	@test/e2e/kubernetes/build.sh $(CACHE)
	@$(GO) build -buildvcs=false -trimpath -o $(CACHE)/tools/test-registry ./test/registry
	@cd test/e2e && $(GO) test -buildvcs=false ./report && exec $(GO) test -buildvcs=false -tags e2e -count=1 -timeout 60m -parallel 8 -v .

e2e-conformance: e2e ## the node part of Kubernetes' own e2e suite (root; ARGS=-update writes its page)
	@test/e2e/kubernetes/build.sh $(CACHE) e2e.test ginkgo
	@cd test/e2e && $(GO) test -buildvcs=false -tags 'e2e conformance' -count=1 -timeout 120m -v -run TestKubernetesOwnSuite . $(ARGS)

gvisor: deps tools build ## pods in gVisor (root; builds it, two minutes of a processor)
	@test/tools/gvisor.sh $(CACHE)
	@$(GO) run -buildvcs=false ./test/run gvisor

vm: deps tools build ## in machines of their own: cgroup v2, AppArmor, systemd, SELinux, and power cuts (root)
	@CACHE=$(CACHE) test/vm/run.sh $(ARGS)

demo: deps tools build ## a web server pod from nothing, with every step shown (root)
	@$(GO) run -buildvcs=false ./test/demo

bench: deps tools build ## measure beside containerd and CRI-O (root; ARGS='-quick -run pods,exec')
	@echo "==> the peers"
	@test/bench/peers.sh $(CACHE)
	@$(GO) run -buildvcs=false ./test/bench $(ARGS)

fmt: ## format the Go files
	@gofmt -w -s $$(git ls-files '*.go')

clean: ## remove bin and the cache
	rm -rf bin $(CACHE)

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

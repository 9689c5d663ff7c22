# make run: from a fresh machine to a container answering on localhost. make test: every test.
# The rest: make help.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

export CARGO_TARGET_DIR ?= $(CURDIR)/target
export PATH := $(HOME)/.cargo/bin:$(PATH)
CARGO := cargo
TOOLS := $(CARGO_TARGET_DIR)/tools
GUEST_TARGET := x86_64-unknown-linux-gnu
# The guest's programs are static and at fixed addresses: no library and no relocation to load when each start is paid for in page faults.
GUEST_FLAGS := -C target-feature=+crt-static -C relocation-model=static
GUEST_DIR := $(CARGO_TARGET_DIR)/$(GUEST_TARGET)/release
IMAGES := $(CARGO_TARGET_DIR)/images
MATERIAL := $(CARGO_TARGET_DIR)/test-material
# What a user runs is built for speed; the tests use the same.
PROFILE ?= release
BIN := $(CARGO_TARGET_DIR)/$(PROFILE)

.PHONY: help
help:
	@echo 'make run      build everything, start the machine, run a container, fetch its page'
	@echo 'make test     every test: unit, and end to end on a real machine'
	@echo 'make fuzz     the monitor against hostile guests made up by libFuzzer: FUZZ_SECONDS (15) each, FUZZ_TARGETS (all)'
	@echo 'make test-kvm the kvm accelerator, in a machine with emulated virtualization'
	@echo 'make lint     formatting, clippy, licences'
	@echo 'make image    the guest image, in target/images'
	@echo 'make bench    measure, against the baselines in docs/benchmarks.md'
	@echo 'make bench-kvm  the kvm accelerator, against QEMU on the same KVM'
	@echo 'make bench-net  the network of a machine, against passt and gvproxy on the same kernel'
	@echo 'make ui       the pages, in ui/dist'
	@echo 'make desktop  the window, in target/release'
	@echo 'make package  a .deb and an AppImage, in target/packages'
	@echo 'make test-window  the window, on a display of its own (part of make test)'
	@echo 'make screenshots  pictures of the pages; make bench-ui, make bench-window  their figures'

# --- what the machine needs ---
.PHONY: packages
packages:
	@scripts/install-packages packages.build

.PHONY: packages-bench
packages-bench: packages
	@scripts/install-packages packages.bench

# The window is built with GTK and WebKit, which nothing else needs.
.PHONY: packages-desktop
packages-desktop: packages
	@scripts/install-packages packages.desktop

# --- building ---
.PHONY: build
build: packages
	@$(CARGO) build --profile $(PROFILE:debug=dev) --locked -p rorqual -p rorqual-vmm

.PHONY: guest
guest: packages
	@RUSTFLAGS='$(GUEST_FLAGS)' $(CARGO) build --release --locked --target $(GUEST_TARGET) -p rorqual-agent -p rorqual-shims -p rorqual-hello
	@$(CARGO) build --release --locked -p rorqual-fix-address -p rorqual-uml-ptrace

.PHONY: image
image: guest
	@images/build --out $(IMAGES) --agent $(GUEST_DIR)/rorqual-agent --port-proxy $(GUEST_DIR)/rorqual-port-proxy --iptables $(GUEST_DIR)/rorqual-iptables --hello $(GUEST_DIR)/rorqual-hello --fix-address $(CARGO_TARGET_DIR)/release/rorqual-fix-address \
	  --uml-ptrace $(CARGO_TARGET_DIR)/release/librorqual_uml_ptrace.so

# The pages: ui/dist, which `rorqual web` finds beside target/.
NODE := $(CURDIR)/scripts/with-node $(TOOLS)/node
.PHONY: ui
ui: ui/node_modules/.package-lock.json
	@cd ui && $(NODE) npm run --silent build -- --logLevel warn

ui/node_modules/.package-lock.json: ui/package-lock.json
	@cd ui && $(NODE) npm ci --silent --no-fund --no-audit
	@touch $@

# The window, with the pages in it. Other targets leave its crate out.
.PHONY: desktop
desktop: packages-desktop ui
	@$(CARGO) build --profile $(PROFILE:debug=dev) --locked -p rorqual-desktop

.PHONY: package
package: build desktop image
	@scripts/install-packages packages.package
	@RUSTFLAGS='$(GUEST_FLAGS)' $(CARGO) build --release --locked --target $(GUEST_TARGET) -p rorqual-appimage
	@packaging/build-deb $(CARGO_TARGET_DIR)/packages $(BIN) $(IMAGES)
	@packaging/build-appimage $(CARGO_TARGET_DIR)/packages $(BIN) $(IMAGES) $(GUEST_DIR)/rorqual-appimage

# Programs and root file systems the end-to-end tests make their images of.
.PHONY: test-material
test-material: packages
	@tests/make-material $(MATERIAL)

# TypeScript of what the window asks of the engine; `make test-unit` fails when it is out of date.
.PHONY: types
types: packages
	@RORQUAL_WRITE_TYPES=1 $(CARGO) test --quiet --locked -p rorqual-backend --lib contract::table

# --- using ---
.PHONY: run
run: build image ui
	@scripts/run $(BIN)
	@if [ -n "$${DISPLAY:-}$${WAYLAND_DISPLAY:-}" ]; then $(MAKE) --no-print-directory desktop && scripts/open-window $(BIN); \
	  else echo '  No display here for the window: `$(BIN)/rorqual web` shows the same pages in a browser.'; fi

# --- checking ---
# All that is only for tests is built in one way: without optimisation, with the panics that a test harness wants, and with the features of the same
# packages each time, so that no crate is compiled twice. The two packages left out link without a standard library, which has no such panics.
TEST_PACKAGES := --workspace --exclude rorqual-shims --exclude rorqual-uml-ptrace
TEST_ENVIRONMENT := CARGO_PROFILE_DEV_PANIC=unwind RORQUAL_PROGRAMS=$(BIN)
TEST_BIN := $(CARGO_TARGET_DIR)/debug

# What is built takes all processors, and so does an emulated one. The other tests with machines take little more than one: two of them run at once,
# and what each says comes at its end.
.PHONY: test
test: test-unit test-ui test-fuzz test-kvm build-suites build-window packages-browser
	@$(MAKE) --no-print-directory -j2 --output-sync=target test-machine test-browser test-window

# The image first: the monitor's tests of process life boot its kernel. The end-to-end suites are targets of their own name.
.PHONY: test-unit
test-unit: build image packages-desktop ui
	@$(TEST_ENVIRONMENT) $(CARGO) test --locked $(TEST_PACKAGES)
	@$(CARGO) test --locked -p rorqual-shims

# The pages by themselves: types, stores, formatters.
.PHONY: test-ui
test-ui: ui
	@cd ui && $(NODE) npm run --silent check && $(NODE) npm run --silent test

# The pages in a real browser, over `rorqual web` and a real machine.
.PHONY: packages-browser
packages-browser: packages
	@scripts/install-packages packages.browser

.PHONY: test-browser
test-browser: build ui image test-material packages-browser
	@cd ui && RORQUAL=$(BIN)/rorqual RORQUAL_MATERIAL=$(MATERIAL) RORQUAL_CLIENTS=$(IMAGES)/$$(ls $(IMAGES))/bin $(NODE) npm run --silent test:browser

SUITES := $(basename $(notdir $(wildcard tests/tests/*.rs)))
.PHONY: test-machine
test-machine: $(SUITES:%=test-machine-%)

.PHONY: build-suites
build-suites: build image test-material packages-desktop ui
	@$(TEST_ENVIRONMENT) $(CARGO) test --no-run --locked $(TEST_PACKAGES) $(SUITES:%=--test %)

# One suite, on a machine of its own.
.PHONY: $(SUITES:%=test-machine-%)
$(SUITES:%=test-machine-%): test-machine-%: build-suites
	@$(TEST_ENVIRONMENT) $(CARGO) test --locked $(TEST_PACKAGES) --test $*

# Pictures of every view in every state, in ui/screenshots, and figures of the pages with made-up data.
.PHONY: screenshots
screenshots: ui packages-browser
	@cd ui && $(NODE) npm run --silent screenshots

.PHONY: bench-ui
bench-ui: ui packages-browser
	@cd ui && $(NODE) npm run --silent bench

# The real window, on a display and a session bus of its own. Without optimisation: in a release's way it takes ten minutes longer on two cores.
WINDOW := $(CARGO_TARGET_DIR)/window
.PHONY: build-window
build-window: build ui image test-material packages-desktop $(TOOLS)/bin/tauri-driver
	@scripts/install-packages packages.window
	@$(TEST_ENVIRONMENT) $(CARGO) build --locked $(TEST_PACKAGES) --bin rorqual-desktop --bin rorqual-test-peer
	@$(TEST_ENVIRONMENT) $(CARGO) test --no-run --locked $(TEST_PACKAGES) --test window
	@mkdir -p $(WINDOW) && ln -f $(BIN)/rorqual $(BIN)/rorqual-vmm $(TEST_BIN)/rorqual-desktop $(WINDOW)/

.PHONY: test-window
test-window: build-window
	@TAURI_DRIVER=$(TOOLS)/bin/tauri-driver RORQUAL_DESKTOP=$(WINDOW)/rorqual-desktop $(TEST_ENVIRONMENT) xvfb-run -a -s '-screen 0 1400x900x24' dbus-run-session -- \
	  $(CARGO) test --locked $(TEST_PACKAGES) --test window

$(TOOLS)/bin/tauri-driver:
	@echo 'Installing tauri-driver into $(TOOLS)'
	@$(CARGO) install --quiet --debug --locked --root $(TOOLS) tauri-driver@2.1.0

# The window as it is released; it has to be alone on the computer for a while.
.PHONY: bench-window
bench-window: build desktop image test-material $(TOOLS)/bin/tauri-driver
	@scripts/install-packages packages.window
	@$(CARGO) build --profile $(PROFILE:debug=dev) --locked -p rorqual-window-tests --bin bench-window
	@TAURI_DRIVER=$(TOOLS)/bin/tauri-driver RORQUAL_DESKTOP=$(BIN)/rorqual-desktop xvfb-run -a -s '-screen 0 1400x900x24' dbus-run-session -- \
	  $(BIN)/bench-window $(BENCH_OPTIONS)

# Coverage by stable flags: counters in line and a table of places, which libFuzzer reads; comparisons are traced. A target of its own
# name keeps them away from build scripts.
FUZZ_FLAGS := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
FUZZ_TARGETS := balloon block console dns frames gateway mmio net parsers relay rng tcp vsock
FUZZ_SECONDS ?= 15

.PHONY: fuzz
fuzz: packages
	@RUSTFLAGS='$(FUZZ_FLAGS)' $(CARGO) build --profile fuzz --locked --target $(GUEST_TARGET) -p rorqual-fuzz --features engine
	@vmm/fuzz/run $(CARGO_TARGET_DIR)/$(GUEST_TARGET)/fuzz/rorqual-fuzz $(CARGO_TARGET_DIR)/fuzz $(FUZZ_SECONDS) $(FUZZ_TARGETS)

.PHONY: test-fuzz
test-fuzz:
	@$(MAKE) --no-print-directory fuzz FUZZ_SECONDS=5

# Rorqual's own monitor on KVM: on this computer's where it works, else in a machine whose processor is emulated with virtualization, where
# it takes some five minutes. Each number of processors is a start of the machine. The emulated machine has one processor more than the largest guest:
# with as many as it has, a guest has made its kernel stand still.
.PHONY: test-kvm
test-kvm: build image packages-desktop ui
	@$(TEST_ENVIRONMENT) $(CARGO) build --locked $(TEST_PACKAGES) --bin hostile-guest --bin rorqual-test-peer
	@tests/nested/make-material $(CARGO_TARGET_DIR)/nested
	@tests/nested/make-peer $(TEST_BIN)/rorqual-test-peer $(CARGO_TARGET_DIR)/nested/peer.tar
	@RORQUAL_NESTED_CPUS=5 tests/nested/run --tries 3 --file $(TEST_BIN)/hostile-guest --file $(CARGO_TARGET_DIR)/nested/shape-init.cpio --file $(CARGO_TARGET_DIR)/nested/peer.tar \
	  $(CARGO_TARGET_DIR)/nested $(BIN) $(IMAGES)/$$(ls $(IMAGES)) inside 1 2

.PHONY: lint
lint: packages-desktop ui
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	@$(CARGO) clippy --locked --workspace $(SUITES:%=--test %) --test window -- -D warnings
	@PATH="$(TOOLS)/bin:$$PATH"; command -v cargo-deny >/dev/null || { echo 'lint: installing cargo-deny into $(TOOLS)'; $(CARGO) install --quiet --debug --locked --root $(TOOLS) cargo-deny; }; \
	  $(CARGO) deny --log-level error check licenses bans sources

.PHONY: bench
bench: build image test-material packages-bench bench-client
	@$(CARGO) run --profile $(PROFILE:debug=dev) --locked -p rorqual-tests --bin bench -- $(BENCH_OPTIONS)

# Rorqual's monitor against QEMU's on the same KVM, which is emulated where the computer has none that works: about 20 minutes there.
.PHONY: bench-kvm
bench-kvm: build image bench-kvm-client
	@tests/nested/make-material $(CARGO_TARGET_DIR)/nested fio
	@tests/nested/bench-kvm $(CARGO_TARGET_DIR)/nested $(BIN) $(IMAGES)/$$(ls $(IMAGES)) $(GUEST_DIR) $(CARGO_TARGET_DIR)/bench-kvm.json $(BENCH_OPTIONS)

# Rorqual's gateway against passt and gvproxy of Debian 13: about 15 minutes.
.PHONY: bench-net
bench-net: build image test-material
	@RUSTFLAGS='$(GUEST_FLAGS)' $(CARGO) build --release --locked --target $(GUEST_TARGET) -p rorqual-tests --bin bench-net-init
	@$(CARGO) build --profile $(PROFILE:debug=dev) --locked -p rorqual-tests --bin bench-net
	@tests/bench-net/make-material $(CARGO_TARGET_DIR)/bench-net
	@tests/bench-net/run $(CARGO_TARGET_DIR)/bench-net $(BIN) $(IMAGES)/$$(ls $(IMAGES)) $(GUEST_DIR) $(MATERIAL)/busybox $(CARGO_TARGET_DIR)/bench-net.json $(BENCH_OPTIONS)

.PHONY: bench-kvm-client
bench-kvm-client: packages
	@RUSTFLAGS='$(GUEST_FLAGS)' $(CARGO) build --release --locked --target $(GUEST_TARGET) -p rorqual-tests --bin bench-kvm --bin bench-init

# Runs on the host and in containers, so it is linked as the guest's programs are.
.PHONY: bench-client
bench-client: packages
	@RUSTFLAGS='$(GUEST_FLAGS)' $(CARGO) build --release --locked --target $(GUEST_TARGET) -p rorqual-tests --bin bench-client

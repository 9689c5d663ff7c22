# Testing. `make test` is for every day, `make test-all` for every merge, `make test-nightly` for slow tests
# that rarely find anything; CONTRIBUTING.md has the minutes of each part.

# All that is only for tests is built in one way: without optimisation, with the panics that a test harness wants, and
# with the features of the same packages each time, so that no crate is compiled twice. Two packages are left out: they
# link without a standard library, which has no such panics. The window's packages bring GTK, WebKit and half of all
# crates along; they are in only where the window is tested.
FREESTANDING := rorqual-shims
WINDOW_PACKAGES := rorqual-desktop rorqual-window-tests
TEST_CARGO := env -u MAKEFLAGS CARGO_PROFILE_DEV_PANIC=unwind RORQUAL_PROGRAMS=$(BIN) cargo
TEST_PACKAGES = --workspace $(FREESTANDING:%=--exclude %) $(if $(WITH_WINDOW),,$(WINDOW_PACKAGES:%=--exclude %))
TEST_BIN := $(CARGO_TARGET_DIR)/debug

# The suites are the files of tests/tests. The longest start first, so that none runs alone at the end.
ALL_SUITES := $(basename $(notdir $(wildcard tests/tests/*.rs)))
NIGHTLY_SUITES := thousand_ports
LONG_SUITES := network api faults routes lifecycle ports
SUITES := $(LONG_SUITES) $(filter-out $(LONG_SUITES) $(NIGHTLY_SUITES),$(ALL_SUITES))

# Downloads and packing overlap with compilers, so everything is built at once.
ALL_AT_ONCE := -j8
# A machine of User Mode Linux takes a processor and little more, so two jobs fill two processors. What a job prints
# comes at its end.
TEST_JOBS ?= 2
SIDE_BY_SIDE = -j$(TEST_JOBS) --output-sync=target
TIMED := scripts/timed

##@ Testing

.PHONY: test
## what a user would miss most: unit tests, the suites on a real machine, the pages in
## a browser
test: packages
	@$(TIMED) 'building for make test' $(MAKE) $(ALL_AT_ONCE) test-programs build-tests test-material packages-browser ui
	@$(TIMED) 'the tests of make test' $(MAKE) $(SIDE_BY_SIDE) test-machine test-unit test-browser test-ui

.PHONY: test-all
## `make test`, and the kvm accelerator, hostile guests, the real window and the packages
test-all: export WITH_WINDOW := yes
test-all: export KERNELS ?= uml kvm
test-all: packages-desktop
	@$(MAKE) test
	@$(TIMED) 'building for make test-all' $(MAKE) $(ALL_AT_ONCE) build-window build-fuzz build-kvm packages-package \
	  appimage-runtime
	@$(TIMED) 'the tests of make test-all' $(MAKE) $(SIDE_BY_SIDE) test-kvm test-window fuzz test-package

.PHONY: test-nightly
## slow tests that rarely find anything: a thousand ports, longer fuzzing, kvm with
## more processors, the release packages
test-nightly: export WITH_WINDOW := yes
test-nightly: export KERNELS ?= uml kvm
test-nightly: packages-desktop
	@$(MAKE) $(NIGHTLY_SUITES:%=test-machine-%)
	@$(MAKE) fuzz FUZZ_SECONDS=120
	@$(MAKE) test-kvm KVM_CPUS='1 2 4'
	@$(MAKE) package
	@packaging/check $(CARGO_TARGET_DIR)/packages

# --- by itself ---

.PHONY: test-unit
## the unit tests, which are beside the code
test-unit: build-tests image
	@$(TIMED) $@ $(TEST_CARGO) test --quiet --locked $(TEST_PACKAGES)
	@$(CARGO) test --quiet --locked -p rorqual-shims

.PHONY: test-ui
## the pages alone: types, stores, formatters
test-ui: ui
	@cd ui && $(NODE) npm run --silent check && $(CURDIR)/$(TIMED) $@ $(NODE) npm run --silent test

.PHONY: test-browser
## the pages in a browser, over `rorqual web` and a real machine
test-browser: build ui image test-material packages-browser
	@cd ui && RORQUAL=$(BIN)/rorqual RORQUAL_MATERIAL=$(MATERIAL) RORQUAL_CLIENTS=$(IMAGE)/bin \
	  $(CURDIR)/$(TIMED) $@ $(NODE) npm run --silent test:browser

.PHONY: test-machine
## the suites of tests/tests, each on a machine of its own; test-machine-NAME is one of them
test-machine: $(SUITES:%=test-machine-%)

.PHONY: $(ALL_SUITES:%=test-machine-%)
$(ALL_SUITES:%=test-machine-%): test-machine-%: build-suites
	@$(TIMED) $@ $(TEST_CARGO) test --quiet --locked $(TEST_PACKAGES) --test $*

# The window without optimisation: as a release it takes ten minutes longer on two processors.
.PHONY: test-window
## the real window, on a display and a session bus of its own
test-window: WITH_WINDOW := yes
test-window: build-window
	@$(TIMED) $@ xvfb-run -a -s '-screen 0 1400x900x24' dbus-run-session -- env TAURI_DRIVER=$(TAURI_DRIVER) \
	  RORQUAL_DESKTOP=$(WINDOW)/rorqual-desktop $(TEST_CARGO) test --quiet --locked $(TEST_PACKAGES) --test window

.PHONY: test-package
## both packages, with the window of the tests: their contents, and a machine started from each
test-package: WITH_WINDOW := yes
test-package: build-window image appimage-runtime packages-package
	@packaging/build-deb $(WINDOW)/packages $(WINDOW) $(IMAGES)
	@packaging/build-appimage $(WINDOW)/packages $(WINDOW) $(IMAGES) $(GUEST_DIR)/rorqual-appimage
	@packaging/check $(WINDOW)/packages

# On this computer's KVM where it works, else in a machine whose processor is emulated with virtualization, where it
# takes some five minutes. Each number of processors is a start of the machine. The emulated machine has one processor
# more than the largest guest: a guest with as many has hung the emulated machine's kernel.
KVM_CPUS ?= 1 2
.PHONY: test-kvm
## the kvm accelerator, with KVM_CPUS (1 2) processors in turn
test-kvm: export KERNELS ?= kvm
test-kvm: build-kvm
	@RORQUAL_NESTED_CPUS=5 $(TIMED) $@ tests/nested/run --tries 3 --file $(TEST_BIN)/hostile-guest \
	  --file $(NESTED)/shape-init.cpio --file $(NESTED)/peer.tar $(NESTED) $(BIN) $(IMAGE) inside $(KVM_CPUS)

FUZZ_SECONDS ?= 5
FUZZ_TARGETS := balloon block console dns frames gateway mmio net parsers relay rng tcp vsock
.PHONY: fuzz
## the monitor against hostile guests: FUZZ_SECONDS (5) for each of FUZZ_TARGETS (all)
fuzz: build-fuzz
	@$(TIMED) $@ vmm/fuzz/run $(CARGO_TARGET_DIR)/$(GUEST_TARGET)/fuzz/rorqual-fuzz $(CARGO_TARGET_DIR)/fuzz \
	  $(FUZZ_SECONDS) $(FUZZ_TARGETS)

# --- what the tests need ---

# One after the other: builds of one profile wait for each other's lock.
.PHONY: test-programs
test-programs:
	@$(MAKE) build
	@$(MAKE) image

.PHONY: build-tests
build-tests: packages $(if $(WITH_WINDOW),packages-desktop ui)
	@$(TEST_CARGO) test --no-run --locked $(TEST_PACKAGES) $(ALL_SUITES:%=--test %)
	@$(TEST_CARGO) test --no-run --locked $(TEST_PACKAGES)

.PHONY: build-suites
build-suites: build image test-material $(if $(WITH_WINDOW),packages-desktop ui)
	@$(TEST_CARGO) test --no-run --locked $(TEST_PACKAGES) $(ALL_SUITES:%=--test %)

# Programs and root file systems that the suites make their images of.
.PHONY: test-material
test-material: packages
	@tests/make-material $(MATERIAL)

WINDOW := $(CARGO_TARGET_DIR)/window
.PHONY: build-window
build-window: WITH_WINDOW := yes
build-window: build ui image test-material packages-desktop packages-window $(TAURI_DRIVER)
	@$(TEST_CARGO) build --locked $(TEST_PACKAGES) --bin rorqual-desktop --bin rorqual-test-peer
	@$(TEST_CARGO) test --no-run --locked $(TEST_PACKAGES) --test window
	@mkdir -p $(WINDOW) && ln -f $(BIN)/rorqual $(BIN)/rorqual-vmm $(TEST_BIN)/rorqual-desktop $(WINDOW)/

NESTED := $(CARGO_TARGET_DIR)/nested
.PHONY: build-kvm
build-kvm: export KERNELS ?= kvm
build-kvm: build image $(if $(WITH_WINDOW),packages-desktop ui)
	@$(TEST_CARGO) build --locked $(TEST_PACKAGES) --bin hostile-guest --bin rorqual-test-peer
	@tests/nested/make-material $(NESTED)
	@tests/nested/make-peer $(TEST_BIN)/rorqual-test-peer $(NESTED)/peer.tar

# Coverage by stable flags: counters in line and a table of places, which libFuzzer reads; comparisons are traced. A
# target of its own name keeps them away from build scripts.
FUZZ_FLAGS := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares
.PHONY: build-fuzz
build-fuzz: packages
	@RUSTFLAGS='$(FUZZ_FLAGS)' $(CARGO) build --profile fuzz --locked --target $(GUEST_TARGET) \
	  -p rorqual-fuzz --features engine

# Measuring. Nothing here is asserted by a test; docs/benchmarks.md holds the figures.

##@ Measuring

.PHONY: bench
## every figure of docs/benchmarks.md, which it rewrites; BENCH_OPTIONS selects a part
bench: export KERNELS ?= uml kvm
bench: build image test-material packages-bench bench-client
	@$(CARGO) run --profile $(CARGO_PROFILE) --locked -p rorqual-tests --bin bench -- $(BENCH_OPTIONS)

# Runs on the host and in containers, so it is linked as the guest's programs are.
.PHONY: bench-client
bench-client: packages
	@RUSTFLAGS='$(GUEST_FLAGS)' $(CARGO) build --release --locked --target $(GUEST_TARGET) \
	  -p rorqual-tests --bin bench-client

.PHONY: bench-kvm
## the monitor against QEMU's on the same KVM: some 20 minutes where KVM is emulated
bench-kvm: export KERNELS ?= kvm
bench-kvm: build image bench-kvm-client
	@tests/nested/make-material $(CARGO_TARGET_DIR)/nested fio
	@tests/nested/bench-kvm $(CARGO_TARGET_DIR)/nested $(BIN) $(IMAGE) $(GUEST_DIR) \
	  $(CARGO_TARGET_DIR)/bench-kvm.json $(BENCH_OPTIONS)

.PHONY: bench-kvm-client
bench-kvm-client: packages
	@RUSTFLAGS='$(GUEST_FLAGS)' $(CARGO) build --release --locked --target $(GUEST_TARGET) \
	  -p rorqual-tests --bin bench-kvm --bin bench-init

.PHONY: bench-net
## a machine's network against passt and gvproxy on the same kernel: some 15 minutes
bench-net: export KERNELS ?= uml
bench-net: build image test-material
	@RUSTFLAGS='$(GUEST_FLAGS)' $(CARGO) build --release --locked --target $(GUEST_TARGET) \
	  -p rorqual-tests --bin bench-net-init
	@$(CARGO) build --profile $(CARGO_PROFILE) --locked -p rorqual-tests --bin bench-net
	@tests/bench-net/make-material $(CARGO_TARGET_DIR)/bench-net
	@tests/bench-net/run $(CARGO_TARGET_DIR)/bench-net $(BIN) $(IMAGE) $(GUEST_DIR) $(MATERIAL)/busybox \
	  $(CARGO_TARGET_DIR)/bench-net.json $(BENCH_OPTIONS)

.PHONY: bench-ui
## the pages with made-up data: script, time to a list, long lists
bench-ui: ui packages-browser
	@cd ui && $(NODE) npm run --silent bench

.PHONY: bench-window
## the release window; leave the computer idle meanwhile
bench-window: build desktop image test-material packages-window $(TAURI_DRIVER)
	@$(CARGO) build --profile $(CARGO_PROFILE) --locked -p rorqual-window-tests --bin bench-window
	@TAURI_DRIVER=$(TAURI_DRIVER) RORQUAL_DESKTOP=$(BIN)/rorqual-desktop xvfb-run -a -s '-screen 0 1400x900x24' \
	  dbus-run-session -- $(BIN)/bench-window $(BENCH_OPTIONS)

.PHONY: screenshots
## pictures of every view in every state, in ui/screenshots
screenshots: ui packages-browser
	@cd ui && $(NODE) npm run --silent screenshots

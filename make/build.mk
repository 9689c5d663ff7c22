# Building: the programs, the guest image, the pages, the window, packages.

##@ Building and running

.PHONY: run
## build everything, start the machine, run a container, fetch its page
run: build image ui
	@scripts/run $(BIN)
	@if [ -n "$${DISPLAY:-}$${WAYLAND_DISPLAY:-}" ]; then $(MAKE) desktop && scripts/open-window $(BIN); \
	  else echo '  No display for the window here: `$(BIN)/rorqual web` shows the same pages in a browser.'; fi

.PHONY: build
## the command line, the daemon and the monitor, in target/release; with PROFILE=debug,
## unoptimised in target/debug, for every target that runs them
build: packages
ifeq ($(PROFILE),debug)
	@$(TEST_CARGO) build --locked $(TEST_PACKAGES) --bin rorqual --bin rorqual-vmm
else
	@$(CARGO) build --profile $(CARGO_PROFILE) --locked -p rorqual -p rorqual-vmm
endif

.PHONY: guest
## the programs that run in the guest
guest: packages
	@RUSTFLAGS='$(GUEST_FLAGS)' $(CARGO) build --release --locked --target $(GUEST_TARGET) \
	  -p rorqual-agent -p rorqual-shims -p rorqual-hello
	@$(CARGO) build --release --locked -p rorqual-fix-address -p rorqual-fix-widths

# Kernels of the image: uml, kvm or both; by default the one this computer uses. What the image has already stays.
.PHONY: image
## the guest image, in target/images, with the kernels of KERNELS (the one this
## computer uses)
image: build guest
	@images/build --out $(IMAGES) --agent $(GUEST_DIR)/rorqual-agent --port-proxy $(GUEST_DIR)/rorqual-port-proxy \
	  --hello $(GUEST_DIR)/rorqual-hello \
	  --fix-address $(CARGO_TARGET_DIR)/release/rorqual-fix-address \
	  --fix-widths $(CARGO_TARGET_DIR)/release/rorqual-fix-widths \
	  --kernels "$${KERNELS:-$$(images/kernel/wanted $(BIN)/rorqual-vmm)}"

.PHONY: pins
## move images/pins, the versions of the engine and its clients, to what Debian testing has now
pins: packages
	@images/move-pins

.PHONY: ui
## the pages, in ui/dist, where `rorqual web` finds them
ui: ui/node_modules/.package-lock.json
	@cd ui && $(NODE) npm run --silent build -- --logLevel warn

ui/node_modules/.package-lock.json: ui/package-lock.json
	@cd ui && $(NODE) npm ci --silent --no-fund --no-audit
	@touch $@

# The window needs GTK and WebKit, which nothing else does. Other targets leave its crate out.
.PHONY: desktop
## the window, with the pages in it, in target/release
desktop: packages-desktop ui
	@$(CARGO) build --profile $(CARGO_PROFILE) --locked -p rorqual-desktop

.PHONY: appimage-runtime
appimage-runtime: packages
	@RUSTFLAGS='$(GUEST_FLAGS)' $(CARGO) build --release --locked --target $(GUEST_TARGET) -p rorqual-appimage

.PHONY: package
## a .deb and an AppImage, in target/packages
package: export KERNELS ?= uml kvm
package: build desktop image appimage-runtime packages-package
	@packaging/build-deb $(CARGO_TARGET_DIR)/packages $(BIN) $(IMAGES)
	@packaging/build-appimage $(CARGO_TARGET_DIR)/packages $(BIN) $(IMAGES) $(GUEST_DIR)/rorqual-appimage

.PHONY: types
## TypeScript of the window's contract; `make test-unit` fails while it is out of date
types: packages
	@RORQUAL_WRITE_TYPES=1 $(TEST_CARGO) test --quiet --locked -p rorqual-backend --lib contract::table

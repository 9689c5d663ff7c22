# Checking the sources.

##@ Checking the sources

.PHONY: lint
## formatting, clippy, ESLint, shellcheck, 120 columns, import circles, licences, and that
## paths, targets and numbers in the documents are true
lint: lint-text lint-shell lint-ui lint-rust lint-licences

# Lines of every kind of source, imports between Rust files, and what the documents and the help promise.
.PHONY: lint-text
lint-text: packages-lint
	@awk -f scripts/help.awk $(MAKEFILE_LIST) >/dev/null
	@python3 scripts/lint/imports_test.py --quiet
	@python3 scripts/lint/columns.py
	@python3 scripts/lint/documents.py
	@python3 scripts/lint/imports.py

.PHONY: lint-shell
lint-shell: packages-lint
	@scripts/lint/shell

.PHONY: lint-ui
lint-ui: ui/node_modules/.package-lock.json
	@cd ui && $(NODE) npm run --silent lint

# With panics as the tests have them, each dependency is checked once. The suites are not among all targets (see
# tests/Cargo.toml), and the two crates without a standard library cannot unwind.
.PHONY: lint-rust
lint-rust: packages-desktop ui
	@$(CARGO) fmt --all --check
	@$(TEST_CARGO) clippy --locked --workspace $(FREESTANDING:%=--exclude %) --all-targets -- -D warnings
	@$(TEST_CARGO) clippy --locked --workspace $(FREESTANDING:%=--exclude %) \
	  $(ALL_SUITES:%=--test %) --test window -- -D warnings
	@$(CARGO) clippy --locked $(FREESTANDING:%=-p %) --all-targets -- -D warnings

.PHONY: lint-licences
lint-licences: packages $(CARGO_DENY)
	@$(CARGO_DENY) --log-level error check licenses bans sources

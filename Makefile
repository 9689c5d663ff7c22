# make run: from a fresh machine to a container answering on localhost. make test: what a user would miss most.
# This file has what all rules share. The rules are in make/, by subject; `make help` prints their own comments.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

export CARGO_TARGET_DIR ?= $(CURDIR)/target
export PATH := $(HOME)/.cargo/bin:$(PATH)
# A cargo that finds make's job server in its environment but not its descriptors prints a warning for each call.
CARGO := env -u MAKEFLAGS -u MFLAGS cargo
GUEST_TARGET := x86_64-unknown-linux-gnu
# The guest's programs are static and at fixed addresses: no library and no relocation to load when each start is paid
# for in page faults.
GUEST_FLAGS := -C target-feature=+crt-static -C relocation-model=static
GUEST_DIR := $(CARGO_TARGET_DIR)/$(GUEST_TARGET)/release
IMAGES := $(CARGO_TARGET_DIR)/images
# The one guest image below IMAGES. The name is known only once the image is made, so a recipe's shell expands it.
IMAGE = $(IMAGES)/$$(ls $(IMAGES))
MATERIAL := $(CARGO_TARGET_DIR)/test-material
# What a user runs is built for speed; the tests use the same.
PROFILE ?= release
CARGO_PROFILE := $(PROFILE:debug=dev)
BIN := $(CARGO_TARGET_DIR)/$(PROFILE)

# Tools that cargo or npm installs are kept outside the checkout, so that a clean checkout need not build them again.
TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/rorqual/tools
NODE := $(CURDIR)/scripts/with-node $(TOOLS)/node-22
CARGO_DENY := $(or $(shell command -v cargo-deny),$(TOOLS)/cargo-deny-0.20.2/bin/cargo-deny)
TAURI_DRIVER := $(TOOLS)/tauri-driver-2.1.0/bin/tauri-driver

include make/build.mk make/test.mk make/lint.mk make/bench.mk

.PHONY: help
help:
	@awk -f scripts/help.awk $(MAKEFILE_LIST)

# --- Debian packages: every list of packages/ has a target ---
PACKAGE_LISTS := $(notdir $(wildcard packages/*))
.PHONY: packages $(PACKAGE_LISTS:%=packages-%)
packages: packages-build
packages-build:
	@scripts/install-packages build
$(filter-out packages-build,$(PACKAGE_LISTS:%=packages-%)): packages-%: packages-build
	@scripts/install-packages $*

# A tool's directory is its name and version. Built without the workspace's target directory, whose lock builds hold.
$(TOOLS)/%:
	@echo 'Installing $(@F) into $(@:/bin/$(@F)=)'
	@env -u CARGO_TARGET_DIR CARGO_PROFILE_DEV_DEBUG=0 $(CARGO) install --quiet --debug --locked \
	  --root $(@:/bin/$(@F)=) $(subst $(@F)-,$(@F)@,$(notdir $(@:/bin/$(@F)=)))

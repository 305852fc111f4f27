# Two commands do everything: `make demo` and `make test`. Both bring the machine up to date first (scripts/bootstrap).
#
# PROFILE=release builds an optimised binary (slower to build, faster to run); the default shares its artifacts with the tests.

PROFILE ?= dev
bin := target/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
cache := $(or $(CURETTE_CACHE),$(CURDIR)/.cache)

# Models run on the library that scripts/bootstrap fetched, unless you name another.
export ORT_DYLIB_PATH ?= $(cache)/onnxruntime/libonnxruntime.so

.DEFAULT_GOAL := help
.PHONY: help demo test lint bootstrap build

help: ## Show this
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' Makefile | while IFS='|' read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

demo: build ## Make 28 sample videos, train a small head, curate the videos, print the funnel
	$(bin)/curette-sample --out out/sample
	$(bin)/curette train-head --labels out/sample/train/labels.csv --videos out/sample/train --out out/sample/head.safetensors
	$(bin)/curette run pipelines/quickstart.toml

test: bootstrap ## Run all tests, with the tables read by Polars, DuckDB, deltalake and datasets
	@scripts/test

lint: ## Check format and lints; warnings are errors
	@scripts/bootstrap --minimal
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets -- -D warnings

bootstrap: ## Install what is missing on this machine (Debian 12+, Ubuntu 24.04+), else list it
	@scripts/bootstrap

build: bootstrap
	cargo build --workspace --bins --profile $(PROFILE)

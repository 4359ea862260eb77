# `make demo` and `make test` do all their set-up on a fresh machine, then run. `make help` lists the rest.
#
#   HDF5=auto|system|static   which HDF5 library (see docs/install.md)
#   PREFIX=DIR                where `make install` puts the programs (DIR/bin); default: cargo's own place
#   CI=true                   makes a missing rustfmt or clippy an error

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.NOTPARALLEL:
.PHONY: help setup demo test fmt clippy unit doc size bench throughput fuzz weights evaluate rpeaks ablations experiment copies miri install check-cuda clean

CARGO_TARGET_DIR ?= target
BIN = $(CARGO_TARGET_DIR)/release
HDF5 ?= auto
export HDF5 CARGO_TARGET_DIR

# Reads what the set-up found: FEATURES and the environment that cargo needs.
ENV = source target/setup/env;

help:
	@echo 'make demo        build the programs and run the pipeline of the README on testdata/, into demo/'
	@echo 'make test        format, lints, tests, documentation'
	@echo 'make bench       seconds and GFLOP/s at the published size, beside PyTorch (a quarter of an hour)'
	@echo 'make throughput  records a second of ecg-prep, beside scipy and neurokit2 (part of make bench; five minutes)'
	@echo 'make fuzz        every reader on mutated files, ten minutes each (TIME=seconds, JOBS=n, TARGETS="edf scp")'
	@echo 'make weights     train the bundled weights on simulated hearts (hours; goes on where it was stopped)'
	@echo 'make evaluate    what the bundled weights do on fresh simulated hearts (SEED=n, COUNT=n; ten minutes)'
	@echo 'make rpeaks      R peaks on 4,000 simulated records and record 100, beside neurokit2 and xqrs (ten minutes)'
	@echo 'make ablations   after make weights: the flow without one of its parts (hours; goes on where it was stopped)'
	@echo 'make experiment  does pretraining on generated clips help? (SCALE=tiny|small|full; hours)'
	@echo 'make copies      does the generator copy its training clips? (COUNT=n; half an hour)'
	@echo 'make miri        the kernels under Miri (needs a nightly Rust with Miri)'
	@echo 'make install     install the programs (PREFIX=DIR for DIR/bin)'
	@echo 'make check-cuda  compile with --features cuda, with an nvcc from PyPI where there is none'
	@echo 'make setup       only find or fetch what the build needs'
	@echo 'make clean       remove what was built, fetched and made'
	@echo 'Add HDF5=static to link an HDF5 built from source, HDF5=system to insist on the installed one.'

setup:
	@.ci/setup.sh

demo: setup
	@$(ENV) cargo build --release --locked --bins $$FEATURES
	@BIN=$(BIN) .ci/demo.sh

test: setup fmt clippy unit doc size
	@echo 'make test: all passed'

# A missing component is an error in CI and a remark elsewhere.
MISSING = echo "make test: $(1) is not installed, so this step is left out (rustup component add $(1))" >&2; test "$${CI:-}" != true

fmt: setup
	@$(ENV) if cargo fmt --version >/dev/null 2>&1; then cargo fmt --check; else $(call MISSING,rustfmt); fi

clippy: setup
	@$(ENV) if cargo clippy --version >/dev/null 2>&1; then \
	  cargo clippy --locked --all-targets $$FEATURES -- -D warnings; else $(call MISSING,clippy); fi

unit: setup
	@.ci/setup.sh python
	@$(ENV) cargo test --locked $$FEATURES

doc: setup
	@$(ENV) RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps $$FEATURES

size:
	@{ find src bin tests benches -name '*.rs' 2>/dev/null || true; } | xargs wc -l | \
	  awk '$$2 != "total" && $$1 > 400 { print "note: " $$2 " has " $$1 " lines (target 400, limit 500)" }'

# Miri knows no vector instructions, so this is the plain path of the kernels; the smallest tests, for it is slow.
miri: setup
	@$(ENV) MIRIFLAGS='-Zmiri-disable-isolation -Zmiri-ignore-leaks' cargo +nightly miri test --locked --lib kernel::

bench: setup
	@$(ENV) export FEATURES; .ci/bench.sh; .ci/throughput.sh

throughput: setup
	@$(ENV) export FEATURES; .ci/throughput.sh

# Ten minutes for each reader: hours in all.
TIME ?= 600
JOBS ?= 1
TARGETS ?=
fuzz: setup
	@$(ENV) export FEATURES; TIME=$(TIME) JOBS=$(JOBS) .ci/fuzz.sh $(TARGETS)

weights: setup
	@$(ENV) cargo build --release --locked --bins $$FEATURES
	@BIN=$(BIN) docs/recipe.sh
	@BIN=$(BIN) docs/recipe-downstream.sh
	@cp target/weights/compact.safetensors target/weights/downstream.safetensors weights/
	@echo 'make weights: the files in weights/ are new; build again to bundle them'

ablations: setup
	@$(ENV) cargo build --release --locked --bins $$FEATURES
	@BIN=$(BIN) docs/recipe.sh ablations
	@cd target/weights && for table in trial_*.csv; do $(RESULT) -v name="$${table%.csv}" "$$table"; done

SEED ?= 1
COUNT ?= 500
# One line a figure: result NAME VALUE [LOW HIGH].
RESULT = awk -F, '!/^\#/ && n++ { print "result", (name ? substr(name, 7) "." : "") $$1, $$2, "[" $$3 " " $$4 "]" }'
evaluate: setup
	@$(ENV) cargo build --release --locked --bin ecgflow $$FEATURES
	@$(BIN)/ecgflow trial -n $(COUNT) --seed $(SEED) | $(RESULT)
	@$(ENV) cargo bench --locked --bench rpeaks $$FEATURES -- SEED=$(SEED)

rpeaks: setup
	@$(ENV) export FEATURES; SEED=$(SEED) .ci/rpeaks.sh

SCALE ?= small
experiment: setup
	@$(ENV) cargo build --release --locked --bins $$FEATURES
	@BIN=$(BIN) SCALE=$(SCALE) .ci/experiment.sh

copies: setup
	@$(ENV) cargo build --release --locked --bins $$FEATURES
	@BIN=$(BIN) .ci/copies.sh

install: setup
	@$(ENV) cargo install --path . --locked --force $$FEATURES $(if $(PREFIX),--root '$(abspath $(PREFIX))')

# CARGO_TARGET_DIR of its own: the CUDA kernels are slow to build and should survive other builds.
check-cuda: setup
	@if command -v nvcc >/dev/null; then echo 'export CUDA_COMPUTE_CAP=$${CUDA_COMPUTE_CAP:-80}' > target/setup/cuda-env; \
	else .ci/setup.sh cuda; fi
	@$(ENV) source target/setup/cuda-env; \
	CARGO_TARGET_DIR=target/cuda cargo check --locked --all-targets --features cuda $$FEATURES

clean:
	rm -rf '$(CARGO_TARGET_DIR)' target demo

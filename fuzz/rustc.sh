#!/bin/sh
# Stands before rustc (RUSTC_WRAPPER): the crates of this project tell libFuzzer where an input has led, their dependencies do not,
# and so need not be built again for fuzzing.
rustc=$1
shift
case " $* " in
  *" --crate-name ecgflow "* | *" --crate-name ecgflow_fuzz "* | *" fuzz_targets/"*)
    exec "$rustc" "$@" --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
      -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
      -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=16 ;;
esac
exec "$rustc" "$@"

#!/usr/bin/env bash
# Fuzzes the readers: every target of fuzz/ for TIME seconds, or those named as arguments. One line a target:
#
#   fuzz NAME runs N seconds S inputs I crashes C peak M MB
#
# TIME    seconds a target (600)
# JOBS    targets at once (1)
# BIN     a folder with targets that are built already
# WHOLE   0 leaves out the whole real files, which are read once before a target is fuzzed
#
# Seeds are made of ../shared/data and testdata/ (fuzz/seeds.py). What the fuzzer learns stays in target/fuzz/corpus for the next run,
# what it finds in target/fuzz/findings. The targets are those of cargo-fuzz, which builds every dependency anew, on nightly Rust; here
# only our own crates are instrumented (fuzz/rustc.sh), and the dependencies of `make test` serve, on stable Rust.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
work=$root/target/fuzz
time=${TIME:-600} jobs=${JOBS:-1}
mkdir -p "$work/corpus" "$work/findings" "$work/log"
PYTHONPATH=$root/target/setup/pydicom:$root/target/setup/h5py python3 fuzz/seeds.py "${DATA:-../shared/data}" testdata "$work/seeds"

bin=${BIN:-}
if [ -z "$bin" ]; then
  bin=$root/target/debug
  cp Cargo.lock fuzz/Cargo.lock # the same versions of everything; cargo adds libFuzzer
  # shellcheck disable=SC2086 # FEATURES is a list of words
  RUSTC_WRAPPER=$root/fuzz/rustc.sh cargo build --manifest-path fuzz/Cargo.toml --target-dir target --bins ${FEATURES:-} >&2
fi
names=("$@")
if [ ${#names[@]} = 0 ]; then
  for file in fuzz/fuzz_targets/*.rs; do names+=("$(basename "$file" .rs)"); done
fi

# Inputs become files: in memory where that is possible.
scratch=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")")
trap 'rm -rf "$scratch"' EXIT

dictionary() { # dictionary NAME: the words of a format
  local of=$1
  case $1 in
    xli) of=none ;; dicom_header) of=dicom ;; wfdb_flac) of=none ;; npz) of=npy ;; torch | import) of=pickle ;; manifest) of=csv ;;
  esac
  if [ -f "fuzz/dict/$of.dict" ]; then echo "-dict=fuzz/dict/$of.dict"; fi
}

one() { # one NAME
  local name=$1 log=$work/log/$1 temporary=$scratch/$1 status=0 whole=0 began
  mkdir -p "$temporary" "$work/corpus/$name" "$work/seeds/$name"
  export TMPDIR=$temporary
  local options=(-timeout=10 -rss_limit_mb=2048 "-artifact_prefix=$work/findings/$name-")
  : >"$log"
  if [ "${WHOLE:-1}" = 1 ] && [ -d "$work/seeds/whole/$name" ]; then
    "$bin/$name" "${options[@]}" "$work/seeds/whole/$name"/* >>"$log" 2>&1 || whole=1
  fi
  began=$(date +%s)
  "$bin/$name" "${options[@]}" -max_total_time="$time" -max_len=65536 -print_final_stats=1 $(dictionary "$name") \
    "$work/corpus/$name" "$work/seeds/$name" >>"$log" 2>&1 || status=1
  awk -v name="$name" -v seconds=$(($(date +%s) - began)) -v crashes=$((status + whole)) '
    /stat::number_of_executed_units/ { runs = $2 }
    /^fuzz: peak/ { if ($3 > peak) peak = $3 }
    /corp: / { sub(/.*corp: /, ""); sub(/\/.*/, ""); inputs = $0 }
    END { printf "fuzz %s runs %d seconds %d inputs %d crashes %d peak %.1f MB\n", name, runs, seconds, inputs, crashes, peak }' "$log"
  rm -rf "$temporary"
  return $((status + whole))
}

failed=0
running=0
for name in "${names[@]}"; do
  if [ "$running" -ge "$jobs" ]; then wait -n || failed=1; running=$((running - 1)); fi
  one "$name" &
  running=$((running + 1))
done
while [ "$running" -gt 0 ]; do wait -n || failed=1; running=$((running - 1)); done
if [ "$failed" = 1 ]; then echo "fuzz: see target/fuzz/findings and target/fuzz/log" >&2; fi
exit "$failed"

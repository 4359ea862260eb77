#!/usr/bin/env bash
# Does a generator copy the clips it was trained on? The one inside the programs must not; one whose flow saw eight clips
# alone must be caught. Every heart is simulated. `make copies`; BIN holds the programs.
#
# COUNT=n   generated clips, from ECGs that no network saw (100)
# TRAIN=n   clips of the bundled generator's cohort that they are compared with (2400: all of it)
# STEPS=n   steps on the eight clips (800)
#
#   result NAME.FIGURE VALUE [LOW HIGH]    NAME = bundled or overfitted; what the figures are: docs/cmr-eval.md
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=${BIN:-target/release}
dir=target/copies
rm -rf "$dir"
mkdir -p "$dir"
trap 'rm -rf "$dir"' EXIT

hearts() { "$BIN/ecgflow" simulate -q -n "$2" --seed "$3" --hdf5 -o "$dir/$1"; }
# copied NAME TRAIN [OPTION...]: clips of the fresh ECGs against those of TRAIN
copied() {
  "$BIN/amdf-sample" -q "$dir/features.h5" "${@:3}" -o "$dir/$1.h5"
  "$BIN/cmr-eval" -q clips --real "$dir/fresh/cine.h5" --generated "$dir/$1.h5" --train "$dir/$2/cine.h5" \
    -o "$dir/$1.csv"
  awk -F, -v name="$1" '
    /^#/ { next }
    !head { for (i = 1; i <= NF; i++) at[$i] = i; head = 1; next }
    $1 ~ /nearest_ratio|copied|copies_flagged/ {
      interval = $at["low"] == "" ? "" : " [" $at["low"] " " $at["high"] "]"
      print "result", name "." $1, $at["value"] interval
    }' "$dir/$1.csv" | tee -a "$dir/results.txt"
}

hearts fresh "${COUNT:-100}" 22
hearts cohort "${TRAIN:-2400}" 0
hearts eight 8 21
"$BIN/pamae-encode" -q "$dir/fresh/ecg.h5" -o "$dir/features.h5"
"$BIN/amdf-sample" train -q --stage flow --cine "$dir/eight/cine.h5" --ecg "$dir/eight/ecg.h5" \
  --weights weights/compact.safetensors --steps "${STEPS:-800}" --lr 1e-3 --warm-up 50 --batch 8 --validation 0 \
  --cycle random --encoder-pace 0 -o "$dir/eight.safetensors"
copied bundled cohort
copied overfitted eight --weights "$dir/eight.safetensors"
for wanted in 'bundled.copies_flagged 0' 'overfitted.copies_flagged 1'; do
  grep -q "^result $wanted" "$dir/results.txt" || { echo "copies: error: expected $wanted" >&2; exit 1; }
done

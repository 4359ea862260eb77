#!/usr/bin/env bash
# The pipeline of the README on testdata/, into demo/. BIN is the folder that holds the programs.
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=${BIN:-target/release}
mkdir -p demo

"$BIN/ecgflow" init tiny --seed 0 -o demo/weights.safetensors
"$BIN/ecg-prep" testdata/ecg/example.hea |
  "$BIN/pamae-encode" --weights demo/weights.safetensors |
  "$BIN/amdf-sample" --weights demo/weights.safetensors --gif demo/clip.gif |
  tee demo/cine.h5 |
  "$BIN/cmr-phenotype" --weights demo/weights.safetensors >demo/phenotypes.csv
"$BIN/cmr-classify" --weights demo/weights.safetensors demo/cine.h5 >demo/diagnoses.csv

for file in demo/clip.gif demo/cine.h5 demo/phenotypes.csv demo/diagnoses.csv; do
  [ -s "$file" ] || { echo "demo: error: $file is missing or empty" >&2; exit 1; }
done
echo "demo: see demo/clip.gif, demo/cine.h5, demo/phenotypes.csv and demo/diagnoses.csv"

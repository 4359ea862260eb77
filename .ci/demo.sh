#!/usr/bin/env bash
# The pipeline of the README on testdata/, into demo/. BIN is the folder that holds the programs.
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=${BIN:-target/release}
mkdir -p demo

rm -rf demo/truth
"$BIN/ecg-prep" testdata/ecg/H1-000004.hea |
  "$BIN/pamae-encode" |
  "$BIN/amdf-sample" |
  tee demo/cine.h5 |
  "$BIN/cmr-phenotype" --long >demo/phenotypes.csv
"$BIN/cmr-classify" demo/cine.h5 >demo/diagnoses.csv
"$BIN/ecgflow" simulate -n 1 --seed 1 --start 4 --hdf5 -o demo/truth
"$BIN/ecgflow" render demo/cine.h5 demo/truth/cine.h5 -o demo/clip.gif
"$BIN/ecgflow" render demo/cine.h5 demo/truth/cine.h5 -o demo/clip.png

for file in demo/clip.gif demo/clip.png demo/cine.h5 demo/phenotypes.csv demo/diagnoses.csv; do
  [ -s "$file" ] || { echo "demo: error: $file is missing or empty" >&2; exit 1; }
done
echo "demo: see demo/clip.gif and demo/clip.png: generated left and above, the truth right and below"
echo "demo: demo/phenotypes.csv and demo/diagnoses.csv are read off the generated clip; demo/truth holds what is true"

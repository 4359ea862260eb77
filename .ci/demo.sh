#!/usr/bin/env bash
# The pipeline of the README on testdata/, into demo/. BIN is the folder that holds the programs.
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=${BIN:-target/release}
mkdir -p demo

rm -rf demo/truth
"$BIN/ecg-prep" testdata/ecg/H1-000004.hea |
  "$BIN/pamae-encode" |
  "$BIN/amdf-sample" >demo/cine.h5
"$BIN/ecgflow" simulate -n 1 --seed 1 --start 4 --hdf5 -o demo/truth
"$BIN/ecgflow" render demo/cine.h5 demo/truth/cine.h5 -o demo/clip.gif
"$BIN/ecgflow" render demo/cine.h5 demo/truth/cine.h5 -o demo/clip.png

for file in demo/clip.gif demo/clip.png demo/cine.h5; do
  [ -s "$file" ] || { echo "demo: error: $file is missing or empty" >&2; exit 1; }
done
echo "demo: see demo/clip.gif and demo/clip.png: generated left and above, the truth right and below"

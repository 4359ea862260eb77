#!/usr/bin/env bash
# Trains the bundled weights, weights/compact.safetensors, on simulated hearts. BIN is the folder that holds the programs.
# Everything else lies in target/weights. A run that was stopped goes on where it was when it is started again.
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=${BIN:-target/release}
dir=target/weights
hearts=3000
mkdir -p "$dir"

step() { # step OUTPUT COMMAND...: runs the command unless its output is there
  local output=$1
  shift
  if [ -e "$output" ]; then echo "weights: $output is there"; return; fi
  echo "weights: $*"
  "$@"
}

step "$dir/hearts" "$BIN/ecgflow" simulate -n "$hearts" --seed 0 --hdf5 -o "$dir/hearts"
step "$dir/start.safetensors" "$BIN/ecgflow" init compact --only vae --seed 0 -o "$dir/start.safetensors"
step "$dir/vae.safetensors" "$BIN/amdf-sample" train --stage vae --cine "$dir/hearts/cine.h5" --init "$dir/start.safetensors" \
  --steps 10000 --lr 1.2e-3 --warm-up 50 --ema 0.998 --batch 2 --validation 0.01 --validate-every 500 \
  --state "$dir/vae.state" --log "$dir/vae.csv" -o "$dir/vae.safetensors"
step "$dir/pamae.safetensors" "$BIN/pamae-encode" train "$dir/hearts/ecg.h5" --weights "$dir/vae.safetensors" \
  --steps 900 --lr 2e-3 --warm-up 30 --batch 16 --validation 0.03 \
  --state "$dir/pamae.state" --log "$dir/pamae.csv" -o "$dir/pamae.safetensors"
step "$dir/flow.safetensors" "$BIN/amdf-sample" train --stage flow --cine "$dir/hearts/cine.h5" --ecg "$dir/hearts/ecg.h5" \
  --weights "$dir/pamae.safetensors" --latents "$dir/latents.h5" --cycle random \
  --steps 6000 --lr 1e-3 --warm-up 100 --ema 0.998 --batch 4 --validation 0.03 --validate-every 500 \
  --state "$dir/flow.state" --log "$dir/flow.csv" -o "$dir/flow.safetensors"
"$BIN/ecgflow" import "$dir/flow.safetensors" --half --only pamae,vae,flow -o weights/compact.safetensors
echo "weights: weights/compact.safetensors is new; build again to bundle it"

#!/usr/bin/env bash
# Trains the bundled generator, weights/compact.safetensors, on simulated hearts. BIN is the folder that holds the programs,
# DEVICE where they train (cpu; cuda with a build for it), HEARTS the size of the cohort.
# Everything else lies in target/weights. A run that was stopped goes on where it was when it is started again.
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=${BIN:-target/release}
source .ci/recipe.sh

step "$dir/hearts" "$BIN/ecgflow" simulate -n "${HEARTS:-2400}" --seed 0 --hdf5 -o "$dir/hearts"
pamae "$dir/pamae"
vae "$dir/vae"
step "$dir/both.safetensors" "$BIN/ecgflow" import "$dir/pamae.safetensors" "$dir/vae.safetensors" -o "$dir/both.safetensors"
flow "$dir/both.safetensors" "$dir/flow" --latents "$dir/latents.h5" --cycle random
"$BIN/ecgflow" import "$dir/flow.safetensors" --half --only pamae,vae,flow -o weights/compact.safetensors
echo "weights: weights/compact.safetensors is new; build again to bundle it"

#!/usr/bin/env bash
# The flow without one of its parts, trained as `make weights` trained the bundled one (which must have run), and what each does on
# simulated participants. One line a figure, `result NAME VALUE [LOW HIGH]`.
#
#   .ci/ablations.sh train      the trainings alone
#   .ci/ablations.sh evaluate   the figures alone
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=${BIN:-target/release}
source .ci/recipe.sh
what=${1:-all}

if [ "$what" != evaluate ]; then
  flow "$dir/both.safetensors" "$dir/flow_no_template" --latents "$dir/latents.h5" --cycle random --no-template
  flow "$dir/both.safetensors" "$dir/flow_whole" --latents "$dir/latents.h5" --cycle whole
  pamae "$dir/pamae_no_phase" --phase-weight 0
  step "$dir/both_no_phase.safetensors" "$BIN/ecgflow" import "$dir/pamae_no_phase.safetensors" "$dir/vae.safetensors" \
    -o "$dir/both_no_phase.safetensors"
  flow "$dir/both_no_phase.safetensors" "$dir/flow_no_phase" --cycle random
fi
if [ "$what" = train ]; then exit; fi

figures() { # figures NAME [OPTION...]
  cargo bench --locked --bench evaluate ${FEATURES:-} -- SEED="${SEED:-2}" COUNT="${COUNT:-200}" NAME="$@"
}
figures bundled WEIGHTS="$dir/flow.safetensors"
figures no_phase WEIGHTS="$dir/flow_no_phase.safetensors"
figures no_alignment WEIGHTS="$dir/flow_whole.safetensors" CYCLE=whole
figures no_template WEIGHTS="$dir/flow_no_template.safetensors"
figures no_guidance WEIGHTS="$dir/flow.safetensors" GUIDANCE=1
for steps in 2 5 10 20; do figures "steps_$steps" WEIGHTS="$dir/flow.safetensors" STEPS="$steps"; done

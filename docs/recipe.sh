#!/usr/bin/env bash
# The bundled generator from nothing: simulate hearts, train PA-MAE, 3D-VAE and flow, sample, score. Every heart is simulated.
#
#   docs/recipe.sh             leaves compact.safetensors, clip.gif and trial.csv in WORK
#   docs/recipe.sh ablations   then: the flow without one of its parts, each of the same budget, and what each does
#
# A run that was stopped goes on where it was. BIN is the folder of the programs (else they are looked for on the PATH), WORK the
# folder of everything that is made, DEVICE where the networks train, HEARTS the size of the cohort; the budgets are below.
set -euo pipefail
WORK=${WORK:-target/weights}
PATH=${BIN:+$(cd "$BIN" && pwd):}$PATH
mkdir -p "$WORK" && cd "$WORK"

# glibc gives large blocks back to the system at once and gets them again as single pages; a training step is a quarter faster
# where it keeps them, in large pages. Other C libraries do not look at these.
export MALLOC_MMAP_THRESHOLD_=8000000000 MALLOC_TRIM_THRESHOLD_=16000000000 MALLOC_TOP_PAD_=268435456
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1

step() { # step OUTPUT COMMAND...: runs the command unless its output is there
  local output=$1
  shift
  if [ -e "$output" ]; then return; fi
  echo "recipe: $*" >&2
  "$@"
}

trained() { # trained NAME COMMAND...: a training that writes NAME.safetensors and goes on from NAME.state
  local name=$1
  shift
  step "$name.safetensors" "$@" --device "${DEVICE:-cpu}" --state "$name.state" --log "$name.csv" -o "$name.safetensors"
}

pamae() { # pamae NAME [OPTION...]
  trained "$1" pamae-encode train hearts/ecg.h5 --steps "${PAMAE_STEPS:-400}" --lr 2e-3 --warm-up 50 --batch 16 \
    --validation 0.02 --validate-every 200 "${@:2}"
}

# Single frames teach more than clips do: a step sees eight hearts for a sixth of what one clip costs. The kernels start without
# their outer frames, so that what is learnt holds for whole clips.
vae() { # vae NAME
  trained "$1" amdf-sample train --stage vae --cine hearts/cine.h5 --frames 1 --batch 8 --steps "${VAE_STEPS:-4500}" \
    --lr 2.4e-3 --warm-up 100 --ema 0.998 --kl 1e-7 --validation 0.005 --validate-every 500
}

# The encoder stays as PA-MAE has it: trained along at this rate, it forgets who is who before the flow can use it.
flow() { # flow NAME PAMAE STEPS EMA [OPTION...]
  step "$2_vae.safetensors" ecgflow import "$2.safetensors" vae.safetensors -o "$2_vae.safetensors"
  trained "$1" amdf-sample train --stage flow --cine hearts/cine.h5 --ecg hearts/ecg.h5 --weights "$2_vae.safetensors" \
    --latents "latents_$2.h5" --steps "$3" --lr 1e-3 --warm-up 150 --ema "$4" --batch 8 --validation 0.01 \
    --validate-every 300 --encoder-pace 0 "${@:5}"
}

trial() { # trial NAME WEIGHTS [OPTION...]: figures on participants that nothing was trained on
  step "$1.csv" ecgflow trial -n "${TRIAL:-500}" --seed 1 --weights "$2" "${@:3}" -o "$1.csv"
}

if [ "${1:-}" = ablations ]; then
  steps=${ABLATION_STEPS:-1800}
  flow full pamae "$steps" 0.995 --cycle random
  flow no_template pamae "$steps" 0.995 --cycle random --no-template
  flow no_alignment pamae "$steps" 0.995 --cycle whole
  pamae pamae_no_phase --phase-weight 0
  flow no_phase pamae_no_phase "$steps" 0.995 --cycle random
  for name in full no_template no_phase; do trial "trial_$name" "$name.safetensors"; done
  trial trial_no_alignment no_alignment.safetensors --whole
  trial trial_no_guidance full.safetensors --guidance 1
  for name in full no_template; do trial "trial_${name}_alpha" "$name.safetensors" --alpha 0.8; done
  for steps in 2 5 10 20; do trial "trial_steps_$steps" full.safetensors --steps "$steps"; done
  exit
fi

step hearts ecgflow simulate -n "${HEARTS:-2400}" --seed 0 --hdf5 -o hearts
pamae pamae
vae vae
flow flow pamae "${FLOW_STEPS:-7500}" 0.998 --cycle random
step compact.safetensors ecgflow import flow.safetensors --half --only pamae,vae,flow -o compact.safetensors
step fresh ecgflow simulate -n 4 --seed 1 --hdf5 -o fresh
step features.h5 pamae-encode fresh/ecg.h5 --weights compact.safetensors -o features.h5
step cine.h5 amdf-sample features.h5 --weights compact.safetensors -o cine.h5
step clip.gif ecgflow render cine.h5 fresh/cine.h5 -o clip.gif
trial trial compact.safetensors

#!/usr/bin/env bash
# The bundled networks behind phenotypes and diagnoses from nothing: simulate hearts, pretrain, train, score. Every heart is
# simulated.
#
#   docs/recipe-downstream.sh   leaves downstream.safetensors, phenotypes.csv and diagnoses.csv in WORK
#
# A run that was stopped goes on where it was. BIN is the folder of the programs (else they are looked for on the PATH), WORK the
# folder of everything that is made (that of docs/recipe.sh, whose hearts are used again), DEVICE where the networks train, HEARTS
# and TRIAL the sizes of the cohorts; the budgets are below.
set -euo pipefail
WORK=${WORK:-target/weights}
PATH=${BIN:+$(cd "$BIN" && pwd):}$PATH
mkdir -p "$WORK" && cd "$WORK"

# As in docs/recipe.sh: a training step is a quarter faster where glibc keeps its large blocks, in large pages.
export MALLOC_MMAP_THRESHOLD_=8000000000 MALLOC_TRIM_THRESHOLD_=16000000000 MALLOC_TOP_PAD_=268435456
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1

step() { # step OUTPUT COMMAND...: runs the command, which gets -o OUTPUT, unless its output is there
  local output=$1
  shift
  if [ -e "$output" ]; then return; fi
  echo "recipe-downstream: $*" >&2
  "$@" -o "$output"
}

trained() { # trained NAME COMMAND...: a training that writes NAME.safetensors and goes on from NAME.state
  local name=$1
  shift
  step "$name.safetensors" "$@" --device "${DEVICE:-cpu}" --state "$name.state" --log "$name.csv"
}

step hearts ecgflow simulate -n "${HEARTS:-2400}" --seed 0 --hdf5
trained phenotype cmr-phenotype train --cine hearts/cine.h5 --table hearts/phenotypes.csv --epochs "${PHENOTYPE_EPOCHS:-40}"
trained diagnosis cmr-classify train --cine hearts/cine.h5 --table hearts/diagnoses.csv --init phenotype.safetensors \
  --epochs "${DIAGNOSIS_EPOCHS:-15}" --lr 3e-4
step downstream.safetensors ecgflow import phenotype.safetensors diagnosis.safetensors --half --only phenotype,diagnosis
step unseen ecgflow simulate -n "${TRIAL:-1000}" --seed 11 --hdf5
for task in phenotype:phenotypes classify:diagnoses; do # what they do on participants that nothing was trained on
  step "${task#*:}.csv" "cmr-${task%:*}" unseen/cine.h5 --weights downstream.safetensors
  step "${task#*:}_scores.csv" cmr-eval tables --truth "unseen/${task#*:}.csv" --predicted "${task#*:}.csv"
done

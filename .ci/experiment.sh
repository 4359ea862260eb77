#!/usr/bin/env bash
# Does pretraining on generated clips help? Digital hearts with known truth; `make experiment`. BIN holds the programs.
#
#   SCALE=small (default)  N = 100 and 300 labelled participants
#   SCALE=full             N = 100, 300 and 1000
#   SCALE=tiny             N = 45, few steps: whether everything runs; its figures mean nothing
#   WEIGHTS=FILE           generator [default: the weights inside the programs]
#   DIR=FOLDER             where everything lies; what is there is not made again [default: target/experiment/SCALE]
#
# For every N: k = 0, 1, 2, 3 times as many clips as there are labelled ones are generated from ECGs of participants
# without labels. In each of five folds the network is pretrained on the clips of those who train and on the generated
# ones, then trained on phenotypes and on diagnoses; baselines run on the same folds. The largest N is also trained on
# permuted rows, whose figures must be those of chance. Lines:
#
#   result NAME VALUE [LOW HIGH]    NAME = TASK.nN.METHOD.FIGURE, interval by bootstrap over participants, folds pooled
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=${BIN:-target/release}
SCALE=${SCALE:-small}
dir=${DIR:-target/experiment/$SCALE}
seed=11 # no cohort that a bundled network was trained on
pre='' fit='' preset=compact sample=''
case $SCALE in
  tiny) sizes='45' mixes='0 1' folds=3 pre='--steps 2 --batch 4' fit='--steps 2 --batch 4' sample='--steps 1' ;;
  small) sizes='100 300' mixes='0 1 2 3' folds=5 pre='--steps 300 --batch 64' fit='--epochs 40' sample='--steps 5' ;;
  full) sizes='100 300 1000' mixes='0 1 2 3' folds=5 pre='--steps 1500 --batch 64' ;;
  *) echo "experiment: error: SCALE=$SCALE: expected tiny, small or full" >&2; exit 2 ;;
esac
weights=()
if [ -n "${WEIGHTS:-}" ]; then weights=(--weights "$WEIGHTS"); fi
mkdir -p "$dir"

made() { # made OUTPUT COMMAND...: runs the command unless its output is there
  local output=$1
  shift
  if [ ! -e "$output" ]; then
    echo "experiment: $*" >&2
    "$@" 2>>"$dir/log.txt" || { echo "experiment: error: see $dir/log.txt" >&2; exit 1; }
  fi
}

# figures TASK N METHOD SHOWN FILE WANTED...: the pooled figures of METHOD in a figures.csv, as result lines that call it
# SHOWN; WANTED is name:metric.
figures() {
  local task=$1 n=$2 method=$3 name=$4 file=$5
  shift 5
  awk -F, -v task="$task" -v n="$n" -v method="$method" -v shown="$name" -v wanted="$*" '
    BEGIN { split(wanted, w, " "); for (i in w) want[w[i]] = 1 }
    $1 == method && $2 == "pooled" && (($3 ":" $4) in want) {
      printf "result %s.n%s.%s.%s_%s %.4f [%.4f %.4f]\n", task, n, shown, $3, $4, $6, $7, $8
    }' "$file"
}

largest=0 most=0
for n in $sizes; do if [ "$n" -gt "$largest" ]; then largest=$n; fi; done
for k in $mixes; do if [ "$k" -gt "$most" ]; then most=$k; fi; done
made "$dir/labelled" "$BIN/ecgflow" simulate -n "$largest" --seed $seed --hdf5 -o "$dir/labelled"
made "$dir/unlabelled" "$BIN/ecgflow" simulate -n $((largest * most)) --seed $seed --start "$largest" --hdf5 \
  -o "$dir/unlabelled"
made "$dir/features.h5" "$BIN/pamae-encode" "$dir/labelled/ecg.h5" "${weights[@]}" -o "$dir/features.h5"
made "$dir/unlabelled.h5" "$BIN/pamae-encode" "$dir/unlabelled/ecg.h5" "${weights[@]}" -o "$dir/unlabelled.h5"
made "$dir/generated.h5" "$BIN/amdf-sample" "$dir/unlabelled.h5" "${weights[@]}" $sample -o "$dir/generated.h5"

groups='all:mean_r2 seen:mean_r2 left_ventricle:mean_r2 right_ventricle:mean_r2 left_atrium:mean_r2 right_atrium:mean_r2
  ascending_aorta:mean_r2 descending_aorta:mean_r2 wall_thickness:mean_r2 circumferential_strain:mean_r2
  radial_strain:mean_r2 longitudinal_strain:mean_r2 lv_edv_ml:r2 lv_esv_ml:r2 lv_ef_percent:r2'
answers='all:auc hcm:auc dcm:auc rcm:auc ischaemic:auc heart_failure:auc'
baselines=constant,ridge,head,mean-clip
for n in $sizes; do
  here=$dir/n$n
  mkdir -p "$here"
  protocol=$here/diagnoses.scratch/protocol.json
  for task in diagnoses phenotypes; do # the folds are dealt by the diagnoses, and serve both
    if [ $task = phenotypes ]; then
      tool=cmr-phenotype wanted=$groups deal=(--protocol "$protocol")
    else
      tool=cmr-classify wanted=$answers deal=(--folds $folds)
    fi
    # The header and the first n participants.
    awk -v n="$n" '/^#/ { next } kept++ <= n' "$dir/labelled/$task.csv" >"$here/$task.csv"
    common=("$BIN/$tool" train --cine "$dir/labelled/cine.h5" --table "$here/$task.csv" --preset $preset --seed 0 $fit)
    made "$here/$task.scratch" "${common[@]}" "${deal[@]}" --baselines $baselines --features "$dir/features.h5" \
      -o "$here/$task.scratch"
    for name in clip:scratch constant:constant ecg-ridge:ecg_ridge ecg-head:ecg_head mean-clip:mean_clip; do
      figures $task "$n" "${name%:*}" "${name#*:}" "$here/$task.scratch/figures.csv" $wanted
    done
    if [ "$n" = "$largest" ]; then
      made "$here/$task.permuted" "${common[@]}" --protocol "$protocol" --permute -o "$here/$task.permuted"
      figures $task "$n" clip permuted "$here/$task.permuted/figures.csv" $wanted
    fi
    for k in $mixes; do
      for fold in $(seq $folds); do
        made "$here/k$k.fold$fold.safetensors" "$BIN/cmr-pretrain" --real "$dir/labelled/cine.h5" \
          --synthetic "$dir/generated.h5" --mix "$k" --preset $preset --protocol "$protocol" --fold "$fold" \
          --validation 0 --seed 0 $pre -o "$here/k$k.fold$fold.safetensors"
      done
      made "$here/$task.k$k" "${common[@]}" --protocol "$protocol" --init "$here/k$k.fold{fold}.safetensors" \
        --baselines probe -o "$here/$task.k$k"
      figures $task "$n" clip "k$k" "$here/$task.k$k/figures.csv" $wanted
      figures $task "$n" probe "k${k}_probe" "$here/$task.k$k/figures.csv" $wanted
    done
  done
done

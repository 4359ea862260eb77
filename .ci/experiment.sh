#!/usr/bin/env bash
# Does pretraining on generated clips help? Digital hearts with known truth; `make experiment`. BIN holds the programs.
#
#   SCALE=small (default)  N = 100 and 300 labelled participants
#   SCALE=full             N = 100, 300 and 1000
#   SCALE=tiny             N = 45, few steps: whether everything runs; its figures mean nothing
#   SIZES, MIXES           only these N and k of the scale; runs with other SIZES may go on side by side in one DIR, once
#                          features.h5 is there; the one that ends last writes the whole tables
#   WEIGHTS=FILE           generator [default: the weights inside the programs]
#   DIR=FOLDER             where everything lies [default: target/experiment/SCALE]
#
# What is in DIR is not made again, and a training that was stopped goes on where it was: the same command goes on.
# Other weights, or another version of this script, need another DIR.
#
# For every N: k = 0, 1, 2, 3 times as many clips as there are labelled ones are generated (five steps each) from ECGs of
# participants without labels. In each of five folds the network is pretrained on the clips of those who train and on
# the generated ones, then trained on phenotypes and on diagnoses; baselines run on the same folds. Pretraining takes the
# same number of steps whatever N and k, so that more clips are not more work as well. The largest N is also trained on
# permuted rows, whose figures must be those of chance. Lines:
#
#   result NAME VALUE [LOW HIGH]    NAME = TASK.nN.METHOD.FIGURE, interval by bootstrap over participants, folds pooled
#
# They are in DIR/results.txt too, and DIR/results.md holds them as tables.
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=${BIN:-target/release}
SCALE=${SCALE:-small}
dir=${DIR:-target/experiment/$SCALE}
seed=11 # no cohort that a bundled network was trained on
pre='' fit='' preset=compact sample=''
case $SCALE in
  tiny) sizes=45 mixes='0 1' folds=3 pre='--steps 2 --batch 4' fit='--steps 2 --batch 4' sample='--steps 1' ;;
  small) sizes='100 300' mixes='0 1 2 3' folds=5 pre='--steps 400' sample='--steps 5' ;;
  full) sizes='100 300 1000' mixes='0 1 2 3' folds=5 pre='--steps 400' sample='--steps 5' ;;
  *) echo "experiment: error: SCALE=$SCALE: expected tiny, small or full" >&2; exit 2 ;;
esac
# The largest of the scale, whatever a run leaves out: what is drawn does not depend on that.
highest() { printf '%s\n' "$@" | sort -n | tail -1; }
largest=$(highest $sizes) most=$(highest $mixes)
among() { # among NAME KNOWN WORD...: every WORD is one of KNOWN
  local name=$1 known=$2 word
  for word in "${@:3}"; do
    if [[ " $known " != *" $word "* ]]; then
      echo "experiment: error: $name: expected some of $known at SCALE=$SCALE, found $word" >&2
      exit 2
    fi
  done
}
all=$sizes
among SIZES "$all" ${SIZES:-}
among MIXES "$mixes" ${MIXES:-}
sizes=${SIZES:-$sizes} mixes=${MIXES:-$mixes}
weights=()
if [ -n "${WEIGHTS:-}" ]; then weights=(--weights "$WEIGHTS"); fi
mkdir -p "$dir"

# A training step is a quarter faster where glibc keeps its large blocks, in large pages (see docs/recipe.sh).
export MALLOC_MMAP_THRESHOLD_=8000000000 MALLOC_TRIM_THRESHOLD_=16000000000 MALLOC_TOP_PAD_=268435456
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1

made() { # made OUTPUT COMMAND...: runs the command, which gets -o OUTPUT, unless its output is there
  local output=$1
  shift
  if [ ! -e "$output" ]; then
    echo "experiment: $* -o $output" >&2
    "$@" -o "$output" 2>>"$dir/log.txt" || { echo "experiment: error: see $dir/log.txt" >&2; exit 1; }
  fi
}

trained() { # trained OUTPUT COMMAND...: the same for trainings, which keep their states beside until they are done
  local output=$1
  shift
  made "$output" "$@" --state "$output.state"
  rm -f "$output".state "$output".*.state
}

# figures TASK N METHOD SHOWN FILE WANTED...: the pooled figures of METHOD in a figures.csv, as result lines that call
# it SHOWN; WANTED is name:metric.
figures() {
  local task=$1 n=$2 method=$3 name=$4 file=$5
  shift 5
  awk -F, -v task="$task" -v n="$n" -v method="$method" -v shown="$name" -v wanted="$*" '
    BEGIN { split(wanted, w, " "); for (i in w) want[w[i]] = 1 }
    $1 == method && $2 == "pooled" && (($3 ":" $4) in want) {
      printf "result %s.n%s.%s.%s_%s %.4f [%.4f %.4f]\n", task, n, shown, $3, $4, $6, $7, $8
    }' "$file" | tee -a "$dir/n$n/results.txt"
}

# Result lines to one table for each task and N: a row a figure, a column a method.
tables() {
  awk '
    function flush() {
      if (table == "") return
      printf "\n%s\n\n| figure |", table
      for (m = 1; m <= methods; m++) printf " %s |", method[m]
      printf "\n|---|"
      for (m = 1; m <= methods; m++) printf "---|"
      for (f = 1; f <= figures; f++) {
        printf "\n| %s |", figure[f]
        for (m = 1; m <= methods; m++) printf " %s |", cell[figure[f], method[m]]
      }
      print ""
    }
    {
      split($2, part, ".")
      this = part[1] ", N = " substr(part[2], 2)
      if (this != table) { flush(); table = this; methods = figures = 0; split("", seen); split("", cell) }
      if (!(("m", part[3]) in seen)) { seen["m", part[3]]; method[++methods] = part[3] }
      if (!(("f", part[4]) in seen)) { seen["f", part[4]]; figure[++figures] = part[4] }
      cell[part[4], part[3]] = sprintf("%.2f (%.2f to %.2f)", $3, substr($4, 2), $5)
    }
    END { flush() }' "$1"
}

made "$dir/labelled" "$BIN/ecgflow" simulate -n "$largest" --seed $seed --hdf5
made "$dir/features.h5" "$BIN/pamae-encode" "$dir/labelled/ecg.h5" "${weights[@]}"
groups='all:mean_r2 seen:mean_r2 left_ventricle:mean_r2 right_ventricle:mean_r2 left_atrium:mean_r2 right_atrium:mean_r2
  ascending_aorta:mean_r2 descending_aorta:mean_r2 wall_thickness:mean_r2 circumferential_strain:mean_r2
  radial_strain:mean_r2 longitudinal_strain:mean_r2 lv_edv_ml:r2 lv_esv_ml:r2 lv_ef_percent:r2'
answers='all:auc hcm:auc dcm:auc rcm:auc ischaemic:auc heart_failure:auc'
baselines=constant,ridge,head,mean-clip
for n in $sizes; do
  here=$dir/n$n
  mkdir -p "$here"
  rm -f "$here/results.txt"
  synthetic=()
  if [ "$(highest $mixes)" -gt 0 ]; then
    made "$here/unlabelled" "$BIN/ecgflow" simulate -n $((n * most)) --seed $seed --start "$largest" --hdf5
    made "$here/unlabelled.h5" "$BIN/pamae-encode" "$here/unlabelled/ecg.h5" "${weights[@]}"
    made "$here/generated.h5" "$BIN/amdf-sample" "$here/unlabelled.h5" "${weights[@]}" $sample
    synthetic=(--synthetic "$here/generated.h5")
  fi
  # Fifty passes, but no more than 500 steps.
  if [ -z "$fit" ] && [ "$n" -ge 1000 ]; then budget='--steps 500'; else budget=$fit; fi
  protocol=$here/diagnoses.scratch/protocol.json
  for task in diagnoses phenotypes; do # the folds are dealt by the diagnoses, and serve both
    if [ $task = phenotypes ]; then
      tool=cmr-phenotype wanted=$groups deal=(--protocol "$protocol")
    else
      tool=cmr-classify wanted=$answers deal=(--folds $folds)
    fi
    # The header and the first n participants.
    awk -v n="$n" '/^#/ { next } kept++ <= n' "$dir/labelled/$task.csv" >"$here/$task.csv"
    common=("$BIN/$tool" train --cine "$dir/labelled/cine.h5" --table "$here/$task.csv" --preset $preset --seed 0
      $budget)
    trained "$here/$task.scratch" "${common[@]}" "${deal[@]}" --baselines $baselines --features "$dir/features.h5"
    for name in constant:constant ecg-ridge:ecg_ridge ecg-head:ecg_head mean-clip:mean_clip clip:scratch; do
      figures $task "$n" "${name%:*}" "${name#*:}" "$here/$task.scratch/figures.csv" $wanted
    done
    for k in $mixes; do
      for fold in $(seq $folds); do
        trained "$here/k$k.fold$fold.safetensors" "$BIN/cmr-pretrain" --real "$dir/labelled/cine.h5" \
          "${synthetic[@]}" --mix "$k" --preset $preset --protocol "$protocol" --fold "$fold" --validation 0 --seed 0 $pre
      done
      trained "$here/$task.k$k" "${common[@]}" --protocol "$protocol" --init "$here/k$k.fold{fold}.safetensors" \
        --baselines probe
      figures $task "$n" clip "k$k" "$here/$task.k$k/figures.csv" $wanted
      figures $task "$n" probe "k${k}_probe" "$here/$task.k$k/figures.csv" $wanted
    done
    if [ "$n" = "$largest" ]; then
      # Diagnoses are dealt anew: in the folds of the true ones a rare one may be missing.
      trained "$here/$task.permuted" "${common[@]}" "${deal[@]}" --permute
      figures $task "$n" clip permuted "$here/$task.permuted/figures.csv" $wanted
    fi
  done
done
for n in $all; do if [ -e "$dir/n$n/results.txt" ]; then cat "$dir/n$n/results.txt"; fi; done >"$dir/results.txt"
tables "$dir/results.txt" >"$dir/results.md"
echo "experiment: tables in $dir/results.md" >&2

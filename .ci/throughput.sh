#!/usr/bin/env bash
# Records a second of ecg-prep and of the same chain in Python, in one run: ours, Python, ours, Python. `make throughput`.
#
# COUNT=n   records (10000): simulated, 500 distinct ones repeated under other ids, in target/throughput (5 GB at most)
# PYTHON=n  of these for each process of Python (400), whose rate is taken
# THREADS=n threads of ours, and most processes of Python, which runs as 1, 2, .. of them (2); 1 where one core is free
# FOLDER=DIR where a folder `throughput` is made and removed (target); a slow disk is timed too, /dev/shm is none
# KEEP=1    keeps the files
# Exits 1 where ecg-prep took more than 300 MB.
set -euo pipefail
cd "$(dirname "$0")/.."
count=${COUNT:-10000} some=${PYTHON:-400} threads=${THREADS:-2} folder=${FOLDER:-$PWD/target}/throughput
if [ $((some * threads)) -gt "$count" ]; then
  echo "throughput: error: expected PYTHON x THREADS of at most COUNT = $count, found $((some * threads))" >&2
  exit 2
fi
.ci/setup.sh peers || { echo "bench note: neurokit2 and scipy could not be fetched, so the comparison is left out"; exit 0; }
python=target/setup/peers/bin/python
log=$(mktemp)
if [ "${KEEP:-}" != 1 ]; then trap 'rm -rf "$log" "$folder"' EXIT; else trap 'rm -f "$log"' EXIT; fi
rm -rf "$folder"

# rate FILE START twelve|one|none: one Python process; the word says how many leads get a verdict on quality.
rate() { "$python" .ci/throughput.py "$folder/ecg.h5" "$folder/$1" "$2" "$some" "${@:3}"; }
# processes N twelve|one|none: so many at once, their rates together.
processes() {
  for k in $(seq 0 $(($1 - 1))); do rate "python$k.h5" $((k * some)) "${@:2}" & done |
    awk -v n="$1" '{ sum += $1 } END { printf "%.2f", sum; exit NR != n }'
}
cargo bench --locked ${FEATURES:-} --bench throughput --no-run
for _ in 1 2; do
  cargo bench --locked ${FEATURES:-} --bench throughput -- "$folder" "COUNT=$count" "THREADS=$threads" | tee -a "$log"
  for n in $(seq 1 "$threads"); do
    for kind in twelve one none; do
      sum=$(processes "$n" $kind)
      echo "bench python records_per_second=$sum processes=$n judged=$kind" | tee -a "$log"
    done
  done
done
"$python" .ci/throughput.py --compare "$folder/python0.h5" "$folder/clean.h5" 0
awk -v count="$count" -v threads="$threads" '
  /^bench ecg_prep seconds/ { split($4, r, "="); ours += r[2]; split($5, m, "="); if (m[2] > peak) peak = m[2] }
  /^bench python/ { split($3, r, "="); split($4, p, "="); python[$5, p[2]] += r[2] }
  END {
    split("twelve one none", kinds, " ")
    for (k = 1; k <= 3; k++) {
      printf "bench ecg_prep_against_python judged=%s threads=%d", kinds[k], threads
      for (n = 1; n <= threads; n++) {
        printf " of_%d_process%s=%.1f", n, (n > 1 ? "es" : ""), ours / python["judged=" kinds[k], n]
      }
      print ""
    }
    printf "bench ecg_prep_peak mb=%d records=%d most=300\n", peak, count
    if (peak > 300) { print "throughput: error: expected at most 300 MB, found " peak > "/dev/stderr"; exit 1 }
  }' "$log"

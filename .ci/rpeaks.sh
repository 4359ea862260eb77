#!/usr/bin/env bash
# R peaks: ours, neurokit2 and wfdb's xqrs on the same records, in one run: simulated ones, and record 100 of MIT-BIH. `make rpeaks`.
#
# RECORD=PATH  another WFDB record with annotated beats (atr), less its ending
# The Python programs come from PyPI into target/setup/peers; the records lie in target/rpeaks.
set -euo pipefail
cd "$(dirname "$0")/.."
.ci/setup.sh peers || { echo "rpeaks: error: neurokit2 and wfdb could not be fetched from PyPI" >&2; exit 1; }
record=$(realpath -m "${RECORD:-../shared/data/ecg/wfdb/100}") real=()
if [ -f "$record.hea" ]; then
  real=("RECORD=$record.hea")
elif [ -n "${RECORD:-}" ]; then
  echo "rpeaks: error: no $record.hea" >&2
  exit 2
else
  echo "SKIPPED annotated beats: no $record.hea" >&2
fi
rm -rf target/rpeaks
cargo bench --locked ${FEATURES:-} --bench rpeaks -- "SEED=${SEED:-1}" "COUNT=${COUNT:-1000}" "WRITE=$PWD/target/rpeaks" "${real[@]}"
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=testdata/golden target/setup/peers/bin/python .ci/rpeaks.py target/rpeaks ${real:+"$record"}

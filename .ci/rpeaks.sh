#!/usr/bin/env bash
# R peaks: ours, neurokit2 and wfdb's xqrs on the same simulated records, in one run. `make rpeaks`.
#
# The Python programs come from PyPI into target/setup/peers; the records lie in target/rpeaks.
set -euo pipefail
cd "$(dirname "$0")/.."
.ci/setup.sh peers || { echo "rpeaks: error: neurokit2 and wfdb could not be fetched from PyPI" >&2; exit 1; }
rm -rf target/rpeaks
cargo bench --locked ${FEATURES:-} --bench rpeaks -- "SEED=${SEED:-1}" "COUNT=${COUNT:-1000}" "WRITE=$PWD/target/rpeaks"
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=testdata/golden target/setup/peers/bin/python .ci/rpeaks.py target/rpeaks

#!/usr/bin/env bash
# Speed of every stage at the published size, and of PyTorch beside it in the same run: ours, PyTorch's, ours, PyTorch's.
# One line a figure, `bench NAME ...`; the medians and ratios come last.
#
# PyTorch comes from PyPI into target/setup/torch and runs reference.py (ECGFLOW_REFERENCE=FILE; default: that of the parity
# data). Without either, that part is left out, and said so.
set -euo pipefail
cd "$(dirname "$0")/.."
reference=${ECGFLOW_REFERENCE:-../shared/parity/reference.py}
torch=target/setup/torch
log=$(mktemp)
trap 'rm -f "$log"' EXIT

cargo bench --locked ${FEATURES:-} --bench models

if [ ! -f "$reference" ]; then echo "bench note: no reference.py, so PyTorch is left out"; exit 0; fi
if [ ! -x "$torch/bin/python" ] || ! "$torch/bin/python" -c 'import torch, safetensors' 2>/dev/null; then
  if ! { python3 -m venv "$torch" && "$torch/bin/pip" install --quiet torch numpy safetensors; } >/dev/null 2>&1; then
    echo "bench note: PyTorch could not be fetched, so it is left out"; exit 0
  fi
fi
for _ in 1 2; do
  cargo bench --locked ${FEATURES:-} --bench models -- clip clip_bf16 2>/dev/null | grep '^bench clip' | tee -a "$log"
  "$torch/bin/python" "$reference" time | sed 's/^/bench /' | tee -a "$log"
done
"$torch/bin/python" - "$log" <<'PY'
import re, statistics, sys
seconds = {}
for line in open(sys.argv[1]):
    name, value = re.match(r"bench (.+?) seconds=([0-9.]+)", line).groups()
    seconds.setdefault(name, []).append(float(value))
median = {name: statistics.median(values) for name, values in seconds.items()}
clip = 20 * median["pytorch velocity"] + median["pytorch decode"]
print(f"bench pytorch_clip seconds={clip:.1f} (20 velocities and a decode)")
for name in ("clip", "clip_bf16"):
    if name in median:
        print(f"bench {name}_against_pytorch seconds={median[name]:.1f} of_pytorch={median[name] / clip:.2f}")
PY

"""R peaks of neurokit2 and of wfdb's xqrs beside ours on the records that `cargo bench --bench rpeaks -- WRITE=FOLDER` kept.

    python rpeaks.py FOLDER

One line a figure: `result rpeaks_LEVEL.PROGRAM_sensitivity VALUE`, `..._precision`; `ecgflow` is ours, counted again here. Each
program is given lead II as recorded and cleans it as it likes: neurokit2 by ecg_clean. The rule of counting is that of
src/metric/beats.rs (ANSI/AAMI EC57: 0.15 s; the first and last 0.15 s do not count). The records are simulated.
"""
import json
import logging
import pathlib
import sys
import time
import warnings

import neurokit2
import numpy as np
import wfdb
from wfdb import processing

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
NEAR, RATE, SAMPLES = 0.15, 500, 5000


def neurokit(x):
    clean = neurokit2.ecg_clean(x, sampling_rate=RATE)
    return neurokit2.ecg_peaks(clean, sampling_rate=RATE)[1]["ECG_R_Peaks"] / RATE


def xqrs(x):
    detector = processing.XQRS(sig=x, fs=RATE)
    detector.detect(verbose=False)
    return np.asarray(detector.qrs_inds) / RATE


def count(truth, found):
    seconds = SAMPLES / RATE
    inside = [t for t in truth if NEAR <= t < seconds - NEAR]
    free, matched = list(found), 0
    for beat in inside:
        near = [k for k, f in enumerate(free) if abs(f - beat) <= NEAR]
        if near:
            free.pop(near[0])
            matched += 1
    extra = [f for f in free if NEAR <= f < seconds - NEAR and not any(abs(t - f) <= NEAR for t in truth)]
    return np.array([matched, len(inside), matched + len(extra)])


folder = pathlib.Path(sys.argv[1])
print(f"neurokit2 {neurokit2.__version__}, wfdb {wfdb.__version__}", file=sys.stderr)
detectors = {"neurokit2": neurokit, "xqrs": xqrs}
for level in ["clean", "18dB", "12dB", "6dB"]:
    records = json.loads((folder / f"{level}.json").read_text())
    leads = np.fromfile(folder / f"{level}.f64").reshape(len(records), SAMPLES)
    totals = {"ecgflow": sum(count(r["truth"], r["found"]) for r in records)}
    for name, detect in detectors.items():
        start, total = time.perf_counter(), np.zeros(3, int)
        for record, lead in zip(records, leads):
            try:
                found = detect(lead)
            except Exception:  # no beat found at all
                found = []
            total += count(record["truth"], found)
        totals[name] = total
        print(f"{level}: {name} took {(time.perf_counter() - start) / len(records):.4f} s a record", file=sys.stderr)
    for name, (matched, beats, found) in totals.items():
        print(f"result rpeaks_{level}.{name}_sensitivity {matched / beats:.4f}")
        print(f"result rpeaks_{level}.{name}_precision {matched / max(found, 1):.4f}", flush=True)

"""What neurokit2 and wfdb's xqrs find in the simulated leads of tests/rpeak.rs and in record 100 of MIT-BIH.

    python -m venv golden-venv && golden-venv/bin/pip install neurokit2==0.2.13 wfdb==4.3.1
    cargo test --test main write_the_simulated -- --ignored
    golden-venv/bin/python testdata/golden/rpeak_golden.py target/rpeak ../shared/data/ecg/wfdb testdata/golden/rpeak.json

A found beat may lie 0.15 s from the true one (ANSI/AAMI EC57); beats in the first and last 0.15 s do not count. Percent.
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
NEAR = 0.15


def neurokit(x, fs):
    clean = neurokit2.ecg_clean(x, sampling_rate=fs)
    return neurokit2.ecg_peaks(clean, sampling_rate=fs)[1]["ECG_R_Peaks"] / fs


def xqrs(x, fs):
    detector = processing.XQRS(sig=x, fs=fs)
    detector.detect(verbose=False)
    return np.asarray(detector.qrs_inds) / fs


def score(truth, found, seconds):
    inside = [t for t in truth if NEAR <= t < seconds - NEAR]
    free, hits = list(found), 0
    for beat in inside:
        near = [k for k, f in enumerate(free) if abs(f - beat) <= NEAR]
        if near:
            free.pop(near[0])
            hits += 1
    extra = [f for f in free if NEAR <= f < seconds - NEAR and not any(abs(t - f) <= NEAR for t in truth)]
    return np.array([hits, len(inside), hits + len(extra)])


def percent(s):
    return {"beats": int(s[1]), "sensitivity": round(100 * s[0] / s[1], 2), "precision": round(100 * s[0] / max(s[2], 1), 2)}


folder, records, out = (pathlib.Path(p) for p in sys.argv[1:4])
detectors = {"neurokit2": neurokit, "xqrs": xqrs}
result = {"neurokit2": neurokit2.__version__, "wfdb": wfdb.__version__, "simulated": [], "record_100": {}}
totals, times = {}, dict.fromkeys(detectors, 0.0)
for entry in json.loads((folder / "index.json").read_text()):
    x = np.fromfile(folder / entry["file"])
    for name, detect in detectors.items():
        start = time.perf_counter()
        try:
            found = detect(x, 500)
        except Exception:  # no beat found at all
            found = []
        times[name] += time.perf_counter() - start
        for kind in ["all", entry["kind"]]:
            key = (name, entry["level"], kind)
            totals[key] = totals.get(key, 0) + score(entry["beats"], found, len(x) / 500)
for (name, level, kind), s in totals.items():
    result["simulated"].append({"detector": name, "muscle_snr_db": level, "kind": kind} | percent(s))
x = wfdb.rdrecord(str(records / "100"), channels=[0]).p_signal[:, 0]
marks = wfdb.rdann(str(records / "100"), "atr")
truth = [s / 360 for s, kind in zip(marks.sample, marks.symbol) if kind in "NLRBAaJSVrFejnE/fQ?"]
for name, detect in detectors.items():
    result["record_100"][name] = percent(score(truth, detect(x, 360), len(x) / 360))
result["seconds_per_lead"] = {k: round(v / len(json.loads((folder / "index.json").read_text())), 4) for k, v in times.items()}
out.write_text(json.dumps(result).replace('{"detector"', '\n{"detector"') + "\n")
for line in result["simulated"]:
    if line["kind"] == "all":
        print(line)
print(result["record_100"], result["seconds_per_lead"])

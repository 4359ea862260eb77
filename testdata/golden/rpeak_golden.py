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

from peers import DETECTORS, annotated, count, find

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)


def percent(s):
    return {"beats": int(s[1]), "sensitivity": round(100 * s[0] / s[1], 2), "precision": round(100 * s[0] / max(s[2], 1), 2)}


folder, records, out = (pathlib.Path(p) for p in sys.argv[1:4])
result = {"neurokit2": neurokit2.__version__, "wfdb": wfdb.__version__, "simulated": [], "record_100": {}}
totals, times = {}, dict.fromkeys(DETECTORS, 0.0)
for entry in json.loads((folder / "index.json").read_text()):
    x = np.fromfile(folder / entry["file"])
    for name, detect in DETECTORS.items():
        start = time.perf_counter()
        found = find(detect, x, 500)
        times[name] += time.perf_counter() - start
        for kind in ["all", entry["kind"]]:
            key = (name, entry["level"], kind)
            totals[key] = totals.get(key, 0) + count(entry["beats"], found, len(x) / 500)
for (name, level, kind), s in totals.items():
    result["simulated"].append({"detector": name, "muscle_snr_db": level, "kind": kind} | percent(s))
x, rate, truth = annotated(records / "100")
for name, detect in DETECTORS.items():
    result["record_100"][name] = percent(count(truth, detect(x, rate), len(x) / rate))
result["seconds_per_lead"] = {k: round(v / len(json.loads((folder / "index.json").read_text())), 4) for k, v in times.items()}
out.write_text(json.dumps(result).replace('{"detector"', '\n{"detector"') + "\n")
for line in result["simulated"]:
    if line["kind"] == "all":
        print(line)
print(result["record_100"], result["seconds_per_lead"])

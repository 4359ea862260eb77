"""R peaks of neurokit2 and of wfdb's xqrs beside ours on the records that `cargo bench --bench rpeaks -- WRITE=FOLDER` kept.

    PYTHONPATH=testdata/golden python .ci/rpeaks.py FOLDER [RECORD]

One line a figure: `result rpeaks_LEVEL.PROGRAM_sensitivity VALUE`, `..._precision`; `ecgflow` is ours, counted again here. Each
program is given lead II as recorded and cleans it as it likes: neurokit2 by ecg_clean. The records in FOLDER are simulated.
RECORD is a real WFDB record with annotated beats (`atr`), its path less its ending; of it the first lead is looked at.
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
RATE, SAMPLES = 500, 5000


def say(what, totals):
    for name, (matched, beats, found) in totals.items():
        print(f"result rpeaks_{what}.{name}_sensitivity {matched / beats:.4f}")
        print(f"result rpeaks_{what}.{name}_precision {matched / max(found, 1):.4f}", flush=True)


def say_annotated(path, found):
    lead, rate, truth = annotated(path)
    totals = {"ecgflow": count(truth, found, len(lead) / rate)}
    totals |= {name: count(truth, find(detect, lead, rate), len(lead) / rate) for name, detect in DETECTORS.items()}
    print(f"record {path.name}: {totals['ecgflow'][1]} beats", file=sys.stderr)
    say(f"record_{path.name}", totals)


folder = pathlib.Path(sys.argv[1])
print(f"neurokit2 {neurokit2.__version__}, wfdb {wfdb.__version__}", file=sys.stderr)
for level in ["clean", "18dB", "12dB", "6dB"]:
    records = json.loads((folder / f"{level}.json").read_text())
    leads = np.fromfile(folder / f"{level}.f64").reshape(len(records), SAMPLES)
    totals = {"ecgflow": sum(count(r["truth"], r["found"], SAMPLES / RATE) for r in records)}
    for name, detect in DETECTORS.items():
        start, total = time.perf_counter(), np.zeros(3, int)
        for record, lead in zip(records, leads):
            total += count(record["truth"], find(detect, lead, RATE), SAMPLES / RATE)
        totals[name] = total
        print(f"{level}: {name} took {(time.perf_counter() - start) / len(records):.4f} s a record", file=sys.stderr)
    say(level, totals)
if len(sys.argv) > 2:
    path = pathlib.Path(sys.argv[2])
    say_annotated(path, json.loads((folder / f"annotated-{path.name}.json").read_text())["found"])

"""Small EDF, EDF+ and BDF files written by an independent implementation (PyPI pyedflib) and what it reads back, for
tests/ecg_edf.rs. There is no real EDF file among the test data.

    python -m venv golden-venv && golden-venv/bin/pip install pyedflib==0.1.42 numpy
    golden-venv/bin/python testdata/golden/edf_golden.py testdata/ecg/edf testdata/golden/edf.json

A formula, no patient: 2 data records of 1 s; II and V1 at 250 Hz, pleth at 50 Hz. First 8, last 8 and every 50th value, mV.
"""
import json
import pathlib
import sys

import numpy as np
import pyedflib

SMALL, OUT = (pathlib.Path(p) for p in sys.argv[1:3])
SMALL.mkdir(exist_ok=True)
TO_MV = {"uV": 1e-3, "mV": 1.0}
n = np.arange(500)
SIGNALS = [("ECG II", "mV", 250, ((n * 37) % 400 - 200) / 100, 2.5), ("Pleth", "%", 50, np.arange(100.0), 100.0),
           ("ECG V1", "uV", 250, ((n * 53) % 3000 - 1500) * 1.0, 1600.0)]


def small(name, kind, bits):
    path = str(SMALL / name)
    writer = pyedflib.EdfWriter(path, len(SIGNALS), file_type=kind)
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    writer.setSignalHeaders([{"label": label, "dimension": unit, "sample_frequency": rate, "physical_min": -most,
                              "physical_max": most, "digital_min": low, "digital_max": high, "transducer": "",
                              "prefilter": ""} for label, unit, rate, _, most in SIGNALS])
    writer.writeSamples([x for *_, x, _ in SIGNALS])
    if kind in (pyedflib.FILETYPE_EDFPLUS, pyedflib.FILETYPE_BDFPLUS):
        writer.writeAnnotation(0.5, -1, "remark")
    writer.close()
    reader = pyedflib.EdfReader(path)
    out = {"rate_hz": 250.0, "samples": 500, "step": 50, "signals": []}
    for k, (label, unit, *_rest) in enumerate(SIGNALS):
        if unit in TO_MV:
            x = reader.readSignal(k) * TO_MV[unit]
            out["signals"].append({"name": label.removeprefix("ECG "), "first": x[:8].tolist(), "last": x[-8:].tolist(),
                                   "every": x[::50].tolist(), "valid": x.size, "sum": float(x.sum()),
                                   "squares": float((x * x).sum())})
    reader.close()
    return out


result = {"pyedflib": pyedflib.__version__,
          "plain.edf": small("plain.edf", pyedflib.FILETYPE_EDF, 16), "plus.edf": small("plus.edf", pyedflib.FILETYPE_EDFPLUS, 16),
          "plus.bdf": small("plus.bdf", pyedflib.FILETYPE_BDFPLUS, 24)}
OUT.write_text(json.dumps(result).replace('{"name"', '\n{"name"') + "\n")

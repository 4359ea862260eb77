"""Physical values of WFDB records as the reference reader (PyPI wfdb) gives them, for tests/formats.rs.

    python -m venv golden-venv && golden-venv/bin/pip install wfdb==4.3.1
    golden-venv/bin/python testdata/golden/wfdb_golden.py ../shared/data/ecg testdata/golden/wfdb.json

Per signal: the first 8, the last 8 and every `step`-th value in mV (null = invalid), their number, and over the valid
ones the sum and the sum of squares. Signals in other units than uV, mV and V are left out.
"""
import json
import pathlib
import sys
import tempfile

import numpy as np
import wfdb

TO_MV = {"uV": 1e-3, "mV": 1.0, "V": 1e3}
ROOT = pathlib.Path(sys.argv[1])
RECORDS = sorted(f"derived/{p.stem}" for p in (ROOT / "derived").glob("*.hea")) + [
    f"wfdb/{name}" for name in
    ["s0010_re", "100", "100_3chan", "a103l", "a103l-no-len", "test01_00s", "test01_00s_skew", "v102s"]]
# The single-signal files of binformats, one per storage format, with headers of their own.
SINGLE = {"d1": (16, -32766, -750), "d3": (80, -124, -517), "d5": (212, -2042, -6824),
          "d8": (24, -8388599, 11715), "d9": (32, -2147483638, 19035)}


def numbers(values):
    return [None if np.isnan(v) else float(v) for v in values]


def golden(path):
    record = wfdb.rdrecord(str(path), physical=True)
    step = 500 if record.sig_len <= 50_000 else 5_000
    out = {"rate_hz": float(record.fs), "samples": int(record.sig_len), "step": step, "signals": []}
    for k, name in enumerate(record.sig_name):
        if record.units[k] not in TO_MV:
            continue
        x = record.p_signal[:, k].astype(np.float64) * TO_MV[record.units[k]]
        valid = x[~np.isnan(x)]
        out["signals"].append({"name": name, "first": numbers(x[:8]), "last": numbers(x[-8:]),
                               "every": numbers(x[::step]), "valid": int(valid.size),
                               "sum": float(valid.sum()), "squares": float((valid * valid).sum())})
    return out


result = {"wfdb": wfdb.__version__, "records": {name: golden(ROOT / name) for name in RECORDS}, "formats": {}}
for part, (code, first, checksum) in SINGLE.items():
    with tempfile.TemporaryDirectory() as folder:
        header = f"single 1 200 499\nsingle.dat {code} 200/mV 12 0 {first} {checksum} 0 II\n"
        (pathlib.Path(folder) / "single.hea").write_text(header)
        (pathlib.Path(folder) / "single.dat").write_bytes((ROOT / f"wfdb/binformats.{part}").read_bytes())
        result["formats"][part] = {"header": header} | golden(pathlib.Path(folder) / "single")
text = json.dumps(result)
pathlib.Path(sys.argv[2]).write_text(text.replace('{"name"', '\n{"name"') + "\n")
print({name: (r["samples"], len(r["signals"])) for name, r in (result["records"] | result["formats"]).items()})

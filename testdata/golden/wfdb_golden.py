"""Physical values of WFDB records as the reference reader (PyPI wfdb) gives them, for tests/formats.rs.

    python -m venv golden-venv && golden-venv/bin/pip install wfdb==4.3.1
    golden-venv/bin/python testdata/golden/wfdb_golden.py ../shared/data/ecg testdata/golden/wfdb.json

Writes the small records of several segments into testdata/ecg/wfdb too (a formula, no patient).

Per signal: the first 8, the last 8 and every `step`-th value in mV (null = invalid), their number, and over the valid
ones the sum and the sum of squares. Signals in other units than uV, mV and V are left out. Where the standard leads of
a record have several samples a frame (FAST), signals of other rates are left out; elsewhere wfdb averages each frame.
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
    ["s0010_re", "100", "100_3chan", "a103l", "a103l-no-len", "test01_00s", "test01_00s_skew", "v102s", "binformats",
     "310derive", "310derive_2", "310derive_3", "311derive", "311derive_2", "311derive_3", "311derive_4", "flacformats",
     "flac_3_constant", "03700181", "test01_00s_frame", "test01_00s_skewframe", "multi-segment/fixed1/v102s",
     "multi-segment/041s/041s01", "multi-segment/041s/041s02", "multi-segment/041s/041s"]]
FAST = {"041s01", "041s02", "041s"}
SMALL = pathlib.Path(__file__).parent.parent / "ecg/wfdb"
# The single-signal files of binformats, one per storage format, with headers of their own.
SINGLE = {"d1": (16, -32766, -750), "d3": (80, -124, -517), "d5": (212, -2042, -6824),
          "d8": (24, -8388599, 11715), "d9": (32, -2147483638, 19035)}


def numbers(values):
    return [None if np.isnan(v) else float(v) for v in values]


def fast(path):
    """Signals of one segment or of several at their full rate: [name, unit, values]."""
    head = wfdb.rdheader(str(path))
    if isinstance(head, wfdb.MultiRecord):
        parts = [fast(path.parent / name)[1] for name in head.seg_name]
        return head.fs * 4, [[a[0], a[1], np.concatenate([a[2], b[2]])] for a, b in zip(*parts)]
    record = wfdb.rdrecord(str(path), physical=True, smooth_frames=False)
    kept = [k for k, n in enumerate(record.samps_per_frame) if n == 4]
    return record.fs * 4, [[record.sig_name[k], record.units[k], record.e_p_signal[k]] for k in kept]


def smooth(path):
    """Every signal at the frame rate; by default wfdb rounds the mean of a frame down to a whole step, here it does not."""
    record = wfdb.rdrecord(str(path), physical=True, smooth_frames=False)
    signal = record.smooth_frames("physical") if record.p_signal is None else record.p_signal
    values = zip(record.sig_name, record.units, signal.T)
    return record.fs, [[name, unit, x] for name, unit, x in values if unit in TO_MV]


def golden(path):
    rate, signals = (fast if path.name in FAST else smooth)(path)
    length = len(signals[0][2])
    step = 500 if length <= 50_000 else 5_000 if length < 1_000_000 else 500_000
    out = {"rate_hz": float(rate), "samples": length, "step": step, "signals": []}
    for name, unit, x in signals:
        x = np.asarray(x, np.float64) * TO_MV[unit]
        valid = x[~np.isnan(x)]
        out["signals"].append({"name": name, "first": numbers(x[:8]), "last": numbers(x[-8:]),
                               "every": numbers(x[::step]), "valid": int(valid.size),
                               "sum": float(valid.sum()), "squares": float((valid * valid).sum())})
    return out


def small_segments():
    """A record of variable layout: a layout, two segments that share one lead, and a gap; and one of fixed layout."""
    SMALL.mkdir(exist_ok=True)
    n = np.arange(24)
    wave = np.stack([(n * 37 % 200 - 100) / 100, (n * 53 % 300 - 150) / 100, (n * 71 % 400 - 200) / 100], 1)
    names = ["I", "II", "V1"]
    def write(name, columns, part):
        wfdb.wrsamp(name, fs=250, units=["mV"] * len(columns), sig_name=[names[c] for c in columns],
                    p_signal=wave[part][:, columns], fmt=["16"] * len(columns), write_dir=str(SMALL),
                    adc_gain=[200.0] * len(columns), baseline=[0] * len(columns))
    write("variable_1", [1, 0], slice(0, 10))
    write("variable_2", [2, 1], slice(10, 24))
    layout = "".join(f"~ 0 200/mV 16 0 0 0 0 {name}\n" for name in names)
    (SMALL / "variable_layout.hea").write_text("variable_layout 3 250 0\n" + layout)
    (SMALL / "variable.hea").write_text(
        "variable/4 3 250 30\nvariable_layout 0\nvariable_1 10\n~ 6\nvariable_2 14\n")
    return {"variable": golden(SMALL / "variable")}


result = {"wfdb": wfdb.__version__, "small": small_segments(), "records": {name: golden(ROOT / name) for name in RECORDS}, "formats": {}}
for part, (code, first, checksum) in SINGLE.items():
    with tempfile.TemporaryDirectory() as folder:
        header = f"single 1 200 499\nsingle.dat {code} 200/mV 12 0 {first} {checksum} 0 II\n"
        (pathlib.Path(folder) / "single.hea").write_text(header)
        (pathlib.Path(folder) / "single.dat").write_bytes((ROOT / f"wfdb/binformats.{part}").read_bytes())
        result["formats"][part] = {"header": header} | golden(pathlib.Path(folder) / "single")
text = json.dumps(result)
pathlib.Path(sys.argv[2]).write_text(text.replace('{"name"', '\n{"name"') + "\n")
print({name: (r["samples"], len(r["signals"])) for name, r in (result["records"] | result["formats"]).items()})

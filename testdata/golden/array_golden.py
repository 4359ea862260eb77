"""Small HDF5 and NPZ files as h5py and NumPy users write them, and what h5py reads; for tests/ecg_array.rs.

    python -m venv golden-venv && golden-venv/bin/pip install h5py==3.16.0 numpy
    golden-venv/bin/python testdata/golden/array_golden.py ../shared/data/ecg testdata/ecg/array testdata/golden/array.json

The small files hold a formula, no patient. Of each record the first lead and the last are kept, mV. Of the real file in the
layout of CODE-15 %: the samples that are not zero in every lead, as testdata/golden/wfdb_golden.py keeps them.
"""
import json
import pathlib
import sys

import h5py
import numpy as np

SHARED, SMALL, OUT = (pathlib.Path(p) for p in sys.argv[1:4])
LEADS = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
SMALL.mkdir(exist_ok=True)


def wave(records, leads, samples):
    r, l, n = np.meshgrid(np.arange(records), np.arange(leads), np.arange(samples), indexing="ij")
    return ((r * 101 + l * 37 + n * 13) % 200 - 100) / 100  # mV, (R, L, N)


def rows(x, ids):
    return {"ids": ids, "first": x[:, 0].tolist(), "last": x[:, -1].tolist()}


three = wave(3, 12, 20)
with h5py.File(SMALL / "grouped.h5", "w") as f:
    data = f.create_dataset("data/signals", data=np.round(three.transpose(0, 2, 1) * 1000).astype("i2"), chunks=(3, 20, 12),
                            compression="gzip", shuffle=True)
    data.attrs["sampling_rate"] = 250
    data.attrs["units"] = "uV"
    f["data/record_id"] = ["a", "b", "c"]
    f["labels"] = np.zeros((3, 4), "f4")
eight = wave(1, 8, 20)[0]
with h5py.File(SMALL / "one.h5", "w") as f:
    f["voltage"] = eight.astype("f8")
    f.attrs["fs"] = 500.0
    f.attrs["leads"] = "I,II,V1,V2,V3,V4,V5,V6"
with h5py.File(SMALL / "each.h5", "w") as f:
    f.attrs["fs"] = 250.0
    for name, x in zip(["p1", "p2", "p3"], three):
        f[f"records/{name}"] = x.astype("f4")
np.savez_compressed(SMALL / "two.npz", ecg=three[:2].astype("f4"), label=np.array([0, 1]), name=np.array(["x", "y"]))
np.savez(SMALL / "several.npz", train=three[:2].transpose(0, 2, 1).astype(">f8"), test=three[2:].astype("f4"))

with h5py.File(SMALL / "grouped.h5") as f:
    grouped = f["data/signals"][:].transpose(0, 2, 1) / 1000
result = {"h5py": h5py.__version__, "grouped": rows(grouped, ["a", "b", "c"]), "one": rows(eight[None], ["one"]),
          "each": rows(three.astype("f4").astype("f8"), ["p1", "p2", "p3"]),
          "two": rows(np.load(SMALL / "two.npz")["ecg"].astype("f8"), ["two_0", "two_1"]),
          "several": rows(np.load(SMALL / "several.npz")["train"].transpose(0, 2, 1), ["several_0", "several_1"])}

result["code15"] = []
with h5py.File(SHARED / "derived/code15_layout_400Hz.hdf5") as f:
    for exam, tracing in zip(f["exam_id"][:], f["tracings"][:].astype("f8")):
        moving = np.flatnonzero((tracing != 0).any(1))
        x = tracing[moving[0]:moving[-1] + 1].T
        signals = [{"name": name, "first": v[:8].tolist(), "last": v[-8:].tolist(), "every": v[::500].tolist(),
                    "valid": v.size, "sum": float(v.sum()), "squares": float((v * v).sum())} for name, v in zip(LEADS, x)]
        result["code15"].append({"id": str(exam), "rate_hz": 400.0, "samples": x.shape[1], "step": 500, "signals": signals})
OUT.write_text(json.dumps(result).replace('{"name"', '\n{"name"') + "\n")
print([r["samples"] for r in result["code15"]])

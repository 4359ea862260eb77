"""What numpy and scipy make of the presets cardionets and mmcl, and the frequency response of clean, for tests/preset.rs.

    python -m venv golden-venv && golden-venv/bin/pip install scipy==1.17.1
    golden-venv/bin/python testdata/golden/preset_golden.py testdata/golden/preset.json

Input, leads k = 0..11, samples n at rate fs, mV:
x[k, n] = 0.5 sin(2 pi 0.15 n / fs + k) + (1 + k / 10) exp(-0.5 (((n mod 400) - 200) / 6)^2)
          + 0.02 ((7919 (n + 31 k) mod 1000) / 1000 - 0.5) + 0.1 k,
with x[3, 1000:1010] += 9. Outputs: every 613th value of the flattened 12 x N array, its sum and its sum of squares.
"""
import json
import sys

import numpy as np
import scipy
from scipy import signal, sparse
from scipy.sparse.linalg import spsolve


def wave(fs, n):
    k, t = np.arange(12)[:, None], np.arange(n)[None, :]
    x = (0.5 * np.sin(2 * np.pi * 0.15 * t / fs + k) + (1 + k / 10) * np.exp(-0.5 * (((t % 400) - 200) / 6.0) ** 2)
         + 0.02 * ((7919 * (t + 31 * k) % 1000) / 1000 - 0.5) + 0.1 * k)
    x[3, 1000:1010] += 9
    return x


def few(x):
    return {"every": [float(v) for v in x.ravel()[::613]], "sum": float(x.sum()), "squares": float((x * x).sum())}


def baseline(y, lam, p, turns):
    n = len(y)
    d = sparse.diags([1.0, -2.0, 1.0], [0, 1, 2], shape=(n - 2, n), format="csc")
    penalty, w = lam * (d.T @ d), np.ones(n)
    for _ in range(turns):
        z = spsolve((sparse.diags(w, format="csc") + penalty).tocsc(), w * y)
        w = np.where(y > z, p, np.where(y < z, 1 - p, 0.0))
    return z


def standardise(x):
    return (x - x.mean()) / x.std()


x = wave(500.0, 5000)
limit = 4 * x.std()
clipped = np.clip(x, -limit, limit)
flat = np.stack([row - baseline(row, 1e7, 0.3, 5) for row in clipped])
mmcl = np.concatenate([standardise(flat[a:b]) for a, b in [(0, 3), (3, 6), (6, 12)]])
slow = wave(250.0, 2500)
sos = signal.butter(5, [0.67, 40.0], "bandpass", fs=250.0, output="sos")
cardionets = standardise(signal.sosfiltfilt(sos, slow, axis=-1, padlen=750))

hz = [0.1, 0.2, 0.3, 0.5, 0.67, 0.8, 1.0, 1.5, 2.0, 5.0, 10.0, 20.0, 30.0, 38.0, 40.0, 42.0, 45.0, 48.0, 50.0, 52.0, 60.0, 80.0]
stages = [signal.butter(2, 0.67, "highpass", fs=500.0, output="sos"), signal.butter(4, 40.0, "lowpass", fs=500.0, output="sos")]
response = sum(20 * np.log10(np.abs(signal.sosfreqz(s, worN=hz, fs=500.0)[1])) for s in stages) * 2  # forward and backward
result = {"scipy": scipy.__version__, "mmcl": few(mmcl), "cardionets": few(cardionets),
          "baseline": few(np.stack([baseline(row, 1e7, 0.3, 5) for row in x])),
          "clean_response": [{"hz": f, "db": float(d)} for f, d in zip(hz, response)]}
open(sys.argv[1], "w").write(json.dumps(result).replace('{"hz"', '\n{"hz"').replace('{"every"', '\n{"every"') + "\n")

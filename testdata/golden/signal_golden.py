"""What scipy.signal says about filters and peaks, for tests/signal.rs.

    python -m venv golden-venv && golden-venv/bin/pip install scipy==1.17.1
    golden-venv/bin/python testdata/golden/signal_golden.py testdata/golden/signal.json

Input at rate fs: x[n] = sin(2 pi 1.3 n / fs) + 0.5 sin(2 pi 17 n / fs + 0.3) + 0.2 ((7919 n mod 1000) / 1000 - 0.5) + 0.3,
n = 0..1999. Outputs: every 37th value and the last.
"""
import json
import sys

import numpy as np
import scipy
from scipy import signal

N = 2000


def wave(fs):
    n = np.arange(N)
    return (np.sin(2 * np.pi * 1.3 * n / fs) + 0.5 * np.sin(2 * np.pi * 17 * n / fs + 0.3)
            + 0.2 * ((7919 * n % 1000) / 1000 - 0.5) + 0.3)


def few(y):
    return [float(v) for v in y[::37]] + [float(y[-1])]


filters = []
for order, kind, corners, fs, pad in [
    (4, "lowpass", [40.0], 500.0, None), (2, "highpass", [0.67], 500.0, None), (2, "highpass", [0.67], 500.0, 1500),
    (3, "highpass", [0.5], 500.0, None), (5, "lowpass", [100.0], 500.0, None), (1, "lowpass", [30.0], 360.0, None),
    (5, "bandpass", [0.67, 40.0], 250.0, None), (2, "bandpass", [5.0, 18.0], 500.0, 300), (4, "bandpass", [8.0, 12.0], 360.0, None),
]:
    sos = signal.butter(order, corners if len(corners) > 1 else corners[0], kind, fs=fs, output="sos")
    x = wave(fs)
    filters.append({"order": order, "kind": kind, "corners_hz": corners, "rate_hz": fs, "pad": pad,
                    "forward": few(signal.sosfilt(sos, x)), "zero_phase": few(signal.sosfiltfilt(sos, x, padlen=pad))})
notches = []
for hz, quality, fs in [(50.0, 30.0, 500.0), (60.0, 30.0, 360.0)]:
    b, a = signal.iirnotch(hz, quality, fs=fs)
    notches.append({"hz": hz, "quality": quality, "rate_hz": fs, "zero_phase": few(signal.filtfilt(b, a, wave(fs)))})
peaks = []
for fs, steps in [(500.0, 0), (360.0, 0), (500.0, 8), (250.0, 4), (50.0, 0)]:
    x = wave(fs)
    if steps:
        x = np.round(x * steps) / steps + np.arange(N) // 5 * 1e-4  # plateaus, of which no two are equally high
    found, _ = signal.find_peaks(x, height=x.mean() + 0.5 * x.std(), distance=int(0.25 * fs))
    peaks.append({"rate_hz": fs, "steps": steps, "peaks": [int(p) for p in found]})
result = {"scipy": scipy.__version__, "filters": filters, "notches": notches, "peaks": peaks}
open(sys.argv[1], "w").write(json.dumps(result).replace('{"order"', '\n{"order"') + "\n")

"""What rpeak_golden.py and .ci/rpeaks.py share: the detectors that ours is measured beside, annotated beats,
and the rule of counting.

The rule is that of src/metric/beats.rs (ANSI/AAMI EC57): a found beat may lie 0.15 s from the true one; beats in the first and last
0.15 s do not count.
"""
import neurokit2
import numpy as np
import wfdb
from wfdb import processing

NEAR = 0.15
BEATS = "NLRBAaJSVrFejnE/fQ?"  # the codes of beats


def neurokit(x, fs):
    clean = neurokit2.ecg_clean(x, sampling_rate=fs)
    return neurokit2.ecg_peaks(clean, sampling_rate=fs)[1]["ECG_R_Peaks"] / fs


def xqrs(x, fs):
    detector = processing.XQRS(sig=x, fs=fs)
    detector.detect(verbose=False)
    return np.asarray(detector.qrs_inds) / fs


def find(detect, x, fs):
    try:
        return detect(x, fs)
    except Exception:  # no beat found at all
        return []


def annotated(path):
    """First lead of a WFDB record, its rate, and the times of its annotated beats (`atr`), s."""
    record, marks = wfdb.rdrecord(str(path), channels=[0]), wfdb.rdann(str(path), "atr")
    return record.p_signal[:, 0], record.fs, [s / record.fs for s, kind in zip(marks.sample, marks.symbol) if kind in BEATS]


def count(truth, found, seconds):
    """True beats that were found, true beats, found beats."""
    inside = [t for t in truth if NEAR <= t < seconds - NEAR]
    free, hits = list(found), 0
    for beat in inside:
        near = [k for k, f in enumerate(free) if abs(f - beat) <= NEAR]
        if near:
            free.pop(near[0])
            hits += 1
    extra = [f for f in free if NEAR <= f < seconds - NEAR and not any(abs(t - f) <= NEAR for t in truth)]
    return np.array([hits, len(inside), hits + len(extra)])


DETECTORS = {"neurokit2": neurokit, "xqrs": xqrs}

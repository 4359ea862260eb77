"""What the reference reader says of a WFDB record of ours, for tests/ecg_prep.rs.

    python3 tests/wfdb_files.py RECORD ARRAY.npy

RECORD is the path less its ending, ARRAY the same ECG as NPY (1 x 12 x N). One line of JSON.
"""
import json
import sys

import numpy as np
import wfdb

record = wfdb.rdrecord(sys.argv[1])
beats = wfdb.rdann(sys.argv[1], "qrs")
array = np.load(sys.argv[2])
print(json.dumps({
    "fs": record.fs, "names": record.sig_name, "units": record.units, "gain": record.adc_gain, "format": record.fmt,
    "length": record.sig_len, "furthest": float(np.abs(record.p_signal.T - array[0]).max()), "shape": array.shape,
    "beats": [int(s) for s in beats.sample], "symbols": sorted(set(beats.symbol)), "comments": record.comments,
}))

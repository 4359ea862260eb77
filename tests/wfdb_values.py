"""Physical values of WFDB records by the reference reader, for tests/ecg_wfdb.rs.

    python3 tests/wfdb_values.py RECORD ...

One line of JSON: of each record the samples, of each sample a value for each signal.
"""
import json
import sys

import wfdb

print(json.dumps([wfdb.rdrecord(name).p_signal.tolist() for name in sys.argv[1:]]))

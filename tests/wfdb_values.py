"""Physical values of WFDB records by the reference reader, for tests/ecg_wfdb.rs.

    python3 tests/wfdb_values.py RECORD ...

One line of JSON: of each record the samples, of each sample a value for each signal. Exits 3 where there is no wfdb.
"""
import json
import sys

try:
    import wfdb
except ImportError:
    sys.exit(3)

print(json.dumps([wfdb.rdrecord(name).p_signal.tolist() for name in sys.argv[1:]]))

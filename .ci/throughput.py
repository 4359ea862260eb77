"""The chain of `ecg-prep --preset clean` with h5py, scipy and neurokit2: HDF5 in, filters, R peaks, HDF5 out.

    python throughput.py IN.h5 OUT.h5 START COUNT JUDGED    records a second, from START to START + COUNT
    python throughput.py --compare OUT.h5 CLEAN.h5 START    how far both outputs are apart

The filters are those of `clean` (Butterworth, high-pass 0.67 Hz of order 2, low-pass 40 Hz of order 4, forward and
backward, three seconds reflected), the R peaks those of neurokit2 in the filtered lead II; leads, R peaks and ids are
written in the same layout and compression. JUDGED says how many leads get a verdict on quality, neurokit2's in three
classes (zhao2018) with the same R peaks: `twelve`, as ecg-prep judges all of them; `one`, lead II; or `none`.
"""
import sys
import time
import warnings

import h5py
import numpy as np

warnings.simplefilter("ignore")
RATE = 500
JUDGED = {"none": slice(0), "one": slice(1, 2), "twelve": slice(12)}


def prepare(source, target, start, count, judged):
    import neurokit2
    from scipy.signal import butter, sosfiltfilt

    high = butter(2, 0.67, "highpass", fs=RATE, output="sos")
    low = butter(4, 40, "lowpass", fs=RATE, output="sos")
    neurokit2.ecg_peaks(np.sin(np.arange(5000) * 0.01) ** 99, sampling_rate=RATE)  # imports what it needs
    began = time.perf_counter()
    with h5py.File(source) as file, h5py.File(target, "w") as out:
        data, ids = file["ecg"], file["id"].asstr()
        clean = out.create_dataset("ecg", (count, 12, 5000), "f4", chunks=(1, 12, 5000), shuffle=True, compression="gzip",
                                   compression_opts=1)
        names, peaks, rates, verdicts = [], [], [], []
        for k in range(count):
            x = data[start + k].astype("f8")
            for sos in (high, low):
                x = sosfiltfilt(sos, x, axis=-1, padlen=3 * RATE)
            found = neurokit2.ecg_peaks(x[1], sampling_rate=RATE)[1]["ECG_R_Peaks"]
            clean[k] = x
            verdicts.append([neurokit2.ecg_quality(lead, rpeaks=found, sampling_rate=RATE, method="zhao2018")
                             for lead in x[judged]])
            names.append(ids[start + k])
            peaks.append(found)
            rates.append(60 * RATE / np.median(np.diff(found)) if len(found) > 1 else np.nan)
        out["id"] = names
        out["quality/verdict"] = np.array(verdicts, "S")
        padded = np.full((count, max(map(len, peaks))), -1, "i4")
        for row, found in zip(padded, peaks):
            row[:len(found)] = found
        out["r_peak"], out["heart_rate"] = padded, np.array(rates, "f4")
        out.attrs["fs"] = float(RATE)
    return count / (time.perf_counter() - began)


def compare(theirs, ours, start):
    with h5py.File(theirs) as a, h5py.File(ours) as b:
        count = len(a["id"])
        assert list(a["id"].asstr()[:]) == list(b["id"].asstr()[start:start + count])
        apart = max(np.abs(a["ecg"][k] - b["ecg"][start + k]).max() for k in range(count))
        return apart, count


if sys.argv[1] == "--compare":
    apart, count = compare(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    print(f"bench ecg_prep_against_scipy furthest_mv={apart:.6f} records={count}")
else:
    print(f"{prepare(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), JUDGED[sys.argv[5]]):.2f}")

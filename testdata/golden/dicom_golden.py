"""Small DICOM ECGs of every encoding, written and read back by the reference implementation (PyPI pydicom), and the
physical values it gives for real ones; for tests/ecg_dicom.rs.

    python -m venv golden-venv && golden-venv/bin/pip install pydicom==3.0.2 numpy
    golden-venv/bin/python testdata/golden/dicom_golden.py ../shared/data/ecg/dicom testdata/ecg/dicom testdata/golden/dicom.json

The small files hold a formula, no patient. pydicom leaves the byte order of samples to its caller, so the values of the
big-endian file are those of its little-endian twin. Real files: the first 8, the last 8 and every 500th value of every
channel of the first multiplex group, mV, and the sum and the sum of squares.
"""
import json
import pathlib
import sys

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

REAL, SMALL, OUT = (pathlib.Path(p) for p in sys.argv[1:4])
TO_MV = {"uV": 1e-3, "mV": 1.0, "V": 1e3}
SAMPLES = 16
# Scheme, code, meaning, unit, sensitivity, correction, baseline: one lead by each kind of code, and one pressure.
CHANNELS = [
    ("SCPECG", "5.6.3-9-2", "Lead II", "uV", "4.88", "1", "0"),
    ("MDC", "2:62", "aVR, augmented voltage, right", "uV", "2.5", "1.25", "-100"),
    ("MDC", "MDC_ECG_LEAD_V3", "", "mV", "0.005", None, "0.25"),
    ("99X", "A1", "Lead V6 (Wilson)", "V", "0.000001", "2", None),
    ("99X", "P1", "Arterial pressure", "mm[Hg]", "0.1", "1", "0"),
]


def code(value, scheme, meaning):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return Sequence([item])


def group(values, kind, label, originality, padding=None):
    item = Dataset()
    item.MultiplexGroupTimeOffset = "0"
    item.WaveformOriginality = originality
    item.NumberOfWaveformChannels = values.shape[1]
    item.NumberOfWaveformSamples = values.shape[0]
    item.SamplingFrequency = "250"
    item.MultiplexGroupLabel = label
    definitions = []
    for scheme, value, meaning, unit, sensitivity, correction, baseline in CHANNELS[: values.shape[1]]:
        channel = Dataset()
        channel.ChannelSourceSequence = code(value, scheme, meaning)
        channel.ChannelSensitivity = sensitivity
        channel.ChannelSensitivityUnitsSequence = code(unit, "UCUM", unit)
        if correction is not None:
            channel.ChannelSensitivityCorrectionFactor = correction
        if baseline is not None:
            channel.ChannelBaseline = baseline
        channel.ChannelSampleSkew = "0"
        channel.WaveformBitsStored = values.dtype.itemsize * 8
        definitions.append(channel)
    item.ChannelDefinitionSequence = Sequence(definitions)
    item.WaveformBitsAllocated = values.dtype.itemsize * 8
    item.WaveformSampleInterpretation = kind
    if padding is not None:
        item.add_new(0x5400100A, "OB" if values.dtype.itemsize == 1 else "OW", padding)
    item.add_new(0x54001010, "OB" if values.dtype.itemsize == 1 else "OW", values.tobytes())
    return item


def small(name, syntax, dtype, kind, undefined_length=False):
    rng = np.arange(SAMPLES * len(CHANNELS)).reshape(SAMPLES, len(CHANNELS))
    info = np.iinfo(dtype)
    values = ((rng * 7919 + 13) % (int(info.max) - int(info.min)) + int(info.min) + 1).astype(dtype)
    padding = np.array([info.min], dtype)
    values[5, 0] = info.min  # missing
    big = syntax == ExplicitVRBigEndian
    order = ">" if big else "<"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.9.1.2"
    meta.MediaStorageSOPInstanceUID = "2.25.1"
    meta.TransferSyntaxUID = syntax
    ds = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128, is_implicit_VR=syntax.is_implicit_VR,
                     is_little_endian=not big)
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality, ds.PatientID = meta.MediaStorageSOPClassUID, "2.25.1", "ECG", "none"
    mean = values[:4, :2].astype(values.dtype.newbyteorder(order))
    ds.WaveformSequence = Sequence([
        group(mean, kind, "MEDIAN BEAT", "DERIVED"),
        group(values.astype(values.dtype.newbyteorder(order)), kind, "RHYTHM", "ORIGINAL",
              padding.astype(values.dtype.newbyteorder(order)).tobytes() + b"\0" * (dtype().itemsize % 2)),
    ])
    if undefined_length:
        ds["WaveformSequence"].is_undefined_length = True
        for item in ds.WaveformSequence:
            item.is_undefined_length_sequence_item = True
            item["ChannelDefinitionSequence"].is_undefined_length = True
    ds.save_as(SMALL / f"{name}.dcm", enforce_file_format=True)
    if big:
        return None
    read = pydicom.dcmread(SMALL / f"{name}.dcm")
    physical = read.waveform_array(1)
    rows = []
    for k, channel in enumerate(CHANNELS):
        if channel[3] in TO_MV:
            rows.append([None if values[s, k] == info.min else float(physical[s, k]) * TO_MV[channel[3]]
                         for s in range(SAMPLES)])
    return {"rate_hz": 250.0, "leads": ["II", "aVR", "V3", "V6"], "samples_mv": rows}


def real(path):
    item = pydicom.dcmread(path)
    x = item.waveform_array(0)
    out = {"rate_hz": float(item.WaveformSequence[0].SamplingFrequency), "samples": x.shape[0], "signals": []}
    for k, channel in enumerate(item.WaveformSequence[0].ChannelDefinitionSequence):
        mv = x[:, k] * TO_MV[channel.ChannelSensitivityUnitsSequence[0].CodeValue]
        out["signals"].append({"meaning": channel.ChannelSourceSequence[0].CodeMeaning,
                               "first": mv[:8].tolist(), "last": mv[-8:].tolist(), "every": mv[::500].tolist(),
                               "sum": float(mv.sum()), "squares": float((mv * mv).sum())})
    return out


cases = {
    "implicit_16": (ImplicitVRLittleEndian, np.int16, "SS", False),
    "explicit_16": (ExplicitVRLittleEndian, np.int16, "SS", True),
    "explicit_16_unsigned": (ExplicitVRLittleEndian, np.uint16, "US", False),
    "big_16": (ExplicitVRBigEndian, np.int16, "SS", False),
    "implicit_8": (ImplicitVRLittleEndian, np.int8, "SB", True),
    "explicit_8_unsigned": (ExplicitVRLittleEndian, np.uint8, "UB", False),
    "big_8": (ExplicitVRBigEndian, np.int8, "SB", True),
    "explicit_32": (ExplicitVRLittleEndian, np.int32, "SL", False),
}
SMALL.mkdir(exist_ok=True)
result = {"pydicom": pydicom.__version__, "small": {name: small(name, *case) for name, case in cases.items()}}
result["small"]["big_16"] = result["small"]["implicit_16"]
result["small"]["big_8"] = result["small"]["implicit_8"]
result["real"] = {p.name: real(p) for p in sorted(REAL.glob("*.dcm"))}
OUT.write_text(json.dumps(result).replace('{"meaning"', '\n{"meaning"').replace('"rate_hz"', '\n"rate_hz"') + "\n")

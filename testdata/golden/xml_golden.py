"""Physical values of XML ECGs, decoded by hand with Python's standard library and numpy.

    python -m venv golden-venv && golden-venv/bin/pip install numpy==2.4.6
    golden-venv/bin/python testdata/golden/xml_golden.py ../shared/data/ecg testdata/golden/xml.json

None of these formats has a reference reader, so this file is the decode by hand that the Rust readers are compared with.
It shares no code with them: ElementTree parses, int.from_bytes unpacks bit streams, numpy the rest.

CardioSoft  StripData: text integers times Resolution (uVperLsb).
MUSE        the Waveform of WaveformType Rhythm: base64 of little-endian int16 times LeadAmplitudeUnitsPerBit; zlib.crc32
            of the bytes equals LeadDataCRC32 in every lead of every file.
Sierra      parsedwaveforms: base64, one chunk a lead, LZW with 10-bit codes, second differences, limb leads restored.
            All leads end alike: zeros, 100 samples of 1 mV, zeros; that end is cut off, as the reader does.
aECG        the sequence set of the series of code RHYTHM: origin + scale * digit.

One Sierra file has an aECG that the vendor's export made of the same recording. It differs by a 60 Hz notch, which its
header names ("notch ... adaptive"): `sierra_against_aecg` records how far the two are apart outside 59 to 61 Hz.
"""

import base64
import json
import sys
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path

import numpy as np

STEP = 500


def local(element):
    return element.tag.rsplit("}", 1)[-1]


def find(root, name):
    return [e for e in root.iter() if local(e) == name]


def text(root, name):
    return find(root, name)[0].text


def summary(names, rate_hz, rows):
    """Rows in mV; sparse, so that no recording is kept here."""
    signals = []
    for name, row in zip(names, rows, strict=True):
        row = np.asarray(row, dtype=np.float64)
        signals.append({
            "name": name,
            "first": row[:8].round(9).tolist(),
            "last": row[-8:].round(9).tolist(),
            "every": row[::STEP].round(9).tolist(),
            "valid": len(row),
            "sum": round(float(row.sum()), 9),
            "squares": round(float((row * row).sum()), 9),
        })
    return {"rate_hz": rate_hz, "samples": len(rows[0]), "step": STEP, "signals": signals}


def cardiosoft(path):
    strip = find(ET.parse(path).getroot(), "StripData")[0]
    uv = float(text(strip, "Resolution"))
    waves = find(strip, "WaveformData")
    rows = [np.array([int(x) for x in w.text.split(",")]) * uv / 1000 for w in waves]
    assert all(len(r) == int(text(strip, "ChannelSampleCountTotal")) for r in rows)
    return summary([w.get("lead") for w in waves], float(text(strip, "SampleRate")), rows)


def muse(path):
    blocks = find(ET.parse(path).getroot(), "Waveform")
    rhythm = [b for b in blocks if text(b, "WaveformType") == "Rhythm"]
    assert len(rhythm) == 1 and len(blocks) == 2
    names, rows = [], []
    for lead in find(rhythm[0], "LeadData"):
        raw = base64.b64decode(text(lead, "WaveFormData"))
        assert zlib.crc32(raw) == int(text(lead, "LeadDataCRC32"))
        names.append(text(lead, "LeadID"))
        rows.append(np.frombuffer(raw, "<i2") * float(text(lead, "LeadAmplitudeUnitsPerBit")) / 1000)
    return summary(names, float(text(rhythm[0], "SampleBase")), rows)


def lzw(data):
    stream, bits = int.from_bytes(data, "big"), len(data) * 8
    codes = [stream >> (bits - 10 * k) & 1023 for k in range(1, bits // 10 + 1)]
    table, out, previous = [bytes([i]) for i in range(256)], b"", b""
    for code in codes[: codes.index(1023)]:
        string = table[code] if code < len(table) else previous + previous[:1]
        if previous and len(table) < 1023:
            table.append(previous + string[:1])
        out, previous = out + string, string
    return out


def halve(x):
    return np.trunc(x / 2).astype(int)


def sierra_raw(path):
    """Integers of each lead, whole."""
    wave = find(ET.parse(path).getroot(), "parsedwaveforms")[0]
    blob, leads = base64.b64decode(wave.text), []
    while len(leads) < 12:
        size, start = int.from_bytes(blob[:4], "little"), int.from_bytes(blob[6:8], "little", signed=True)
        data, blob = lzw(blob[8 : 8 + size]), blob[8 + size :]
        half = len(data) // 2
        numbers = np.frombuffer(bytes(b for pair in zip(data[:half], data[half:]) for b in pair), ">i2").astype(int)
        # second difference of the samples = -(previous number - 64), the first of them = -start
        bends = -np.concatenate([[start], numbers[2:-1] - 64])
        slope = numbers[1] - numbers[0] + np.concatenate([[0], np.cumsum(bends)])
        leads.append(numbers[0] + np.concatenate([[0], np.cumsum(slope)]))
    one, two = leads[0], leads[1]
    leads[2] = two - one - leads[2]
    leads[3] = -halve(one + two) - leads[3]
    leads[4] = halve(one - leads[2]) - leads[4]
    leads[5] = halve(two + leads[2]) - leads[5]
    return np.array(leads)


NAMES = "I II III aVR aVL aVF V1 V2 V3 V4 V5 V6".split()


def sierra(path):
    root = ET.parse(path).getroot()
    leads = sierra_raw(path)
    wave = find(root, "parsedwaveforms")[0]
    rate, uv = float(text(root, "samplingrate")), float((find(root, "signalresolution") or find(root, "resolution"))[0].text)
    assert leads.shape[1] == int(wave.get("durationperchannel")) * rate / 1000
    alike = (leads == leads[0]).all(axis=0)
    end = leads.shape[1] - int(np.argmin(alike[::-1]))
    tail = leads[0, end:]
    assert (tail == 1000 / uv).sum() == 100 and ((tail == 0) | (tail == 1000 / uv)).all()
    return summary(NAMES, rate, leads[:, :end] * uv / 1000)


def aecg_raw(path):
    series = [s for s in find(ET.parse(path).getroot(), "series") if find(s, "code")[0].get("code") == "RHYTHM"][0]
    step = float(find(series, "increment")[0].get("value"))
    names, rows = [], []
    for sequence in find(find(series, "sequenceSet")[0], "sequence"):
        if not find(sequence, "digits"):
            continue
        origin, scale = find(sequence, "origin")[0], find(sequence, "scale")[0]
        assert origin.get("unit") == scale.get("unit") == "uV"
        names.append(find(sequence, "code")[0].get("code"))
        digits = np.array([int(x) for x in text(sequence, "digits").split()])
        rows.append((float(origin.get("value")) + float(scale.get("value")) * digits) / 1000)
    return names, round(1 / step, 6), np.array(rows)


def aecg(path):
    return summary(*aecg_raw(path))


def sierra_against_aecg(sierra_path, aecg_path):
    """The largest rms distance of a lead, in least significant bits, with and without 59 to 61 Hz, before the pulse."""
    apart = sierra_raw(sierra_path) - aecg_raw(aecg_path)[2] / 0.005
    apart = apart[:, 500:5250]
    spectrum = np.fft.rfft(apart, axis=1)
    mains = np.abs(np.fft.rfftfreq(apart.shape[1], 1 / 500) - 60) < 1
    spectrum[:, mains] = 0
    rest = np.fft.irfft(spectrum, apart.shape[1], axis=1)
    rms = lambda x: round(float(np.sqrt((x**2).mean(axis=1)).max()), 3)
    return {"rms_lsb": rms(apart), "rms_lsb_without_mains": rms(rest), "mean_lsb": round(float(np.abs(apart.mean(axis=1)).max()), 3)}


def main(folder, out):
    readers = [("cardiosoft", cardiosoft), ("muse", muse), ("sierra", sierra)]
    records = {}
    for name, read in readers:
        for path in sorted((folder / name).iterdir()):
            is_aecg = local(ET.parse(path).getroot()) == "AnnotatedECG"
            records[f"{name}/{path.name}"] = (aecg if is_aecg else read)(path)
    pair = [folder / "sierra" / f"ad4d3d80-d165_1-04_{kind}.xml" for kind in ("orig", "converted")]
    golden = {"records": records, "sierra_against_aecg": sierra_against_aecg(*pair)}
    out.write_text(json.dumps(golden).replace('{"name"', '\n{"name"') + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

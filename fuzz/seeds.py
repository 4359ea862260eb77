#!/usr/bin/env python3
"""Seeds of the fuzz targets: python3 seeds.py DATA TESTDATA OUT

DATA is the folder of real files (../shared/data), TESTDATA ours. Real files are cut to a few samples, so that an input takes
microseconds: OUT/TARGET/*. Whole ones go to OUT/whole/TARGET/*: they are read once, not mutated. pydicom and numpy are used
where they are there (make test fetches them into target/setup).
"""

import base64
import gzip
import io
import json
import pickle
import re
import struct
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

DATA, TESTDATA, OUT = (Path(argument) for argument in sys.argv[1:4])
BREAK = b"\0#@#\n"
SAMPLES = 64
# Bits of a sample, by WFDB format; groups of 310 and 311 are counted in whole.
BITS = {8: 8, 16: 16, 24: 24, 32: 32, 61: 16, 80: 8, 160: 16, 212: 12, 310: 32 / 3, 311: 32 / 3}


def put(target, name, content):
    path = OUT / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def files(folder, *patterns):
    return sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file())


def numbers(text):
    """Long lists of numbers keep their beginning."""
    return re.sub(r"((?:-?\d+[\s,]+){%d})(?:-?\d+[\s,]*)+" % SAMPLES, r"\1", text)


def decoded(content):
    text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin1")
    return re.sub(r">\s+<", "><", text)


def muse(text):
    def lead(match):
        cut = base64.b64decode(match.group(2))[: 2 * SAMPLES]
        head = re.sub(r"(<LeadSampleCountTotal>)\d+", r"\g<1>%d" % (len(cut) // 2), match.group(1))
        head = re.sub(r"(<LeadDataCRC32>)\d+", r"\g<1>0", head)  # 0 is none; no mutation hits another
        return head + "<WaveFormData>" + base64.b64encode(cut).decode() + "</WaveFormData>"

    return re.sub(r"(<LeadData>(?:(?!</LeadData>).)*?)<WaveFormData>(.*?)</WaveFormData>", lead, text, flags=re.S)


def cardiosoft(text):
    """Cut the strip evenly, and all else away that is long."""
    text = numbers(text)
    lead = lambda m: m.group(1) + ",".join(re.findall(r"-?\d+", m.group(2))[: SAMPLES // 2]) + "</WaveformData>"
    text = re.sub(r"(<WaveformData[^>]*>)(.*?)</WaveformData>", lead, text, flags=re.S)
    return re.sub(r"(<ChannelSampleCountTotal>)\d+", r"\g<1>%d" % (SAMPLES // 2), text)


def sierra(text):
    """The first three leads, which are stored whole chunks; and these chunks by themselves."""
    text = re.sub(r"<repbeats.*?</repbeats>", "", text, flags=re.S)
    match = re.search(r"(<parsedwaveforms[^>]*>)(.*?)(</parsedwaveforms>)", text, flags=re.S)
    packed = base64.b64decode(match.group(2))
    chunks, at = [], 0
    while at + 8 <= len(packed):
        end = at + 8 + struct.unpack_from("<I", packed, at)[0]
        chunks.append(packed[at:end])
        at = end
    head = re.sub(r'leadlabels="[^"]*"', 'leadlabels="I II III"', match.group(1))
    head = re.sub(r'numberofleads="\d+"', 'numberofleads="3"', head)
    if "leadlabels" not in head:
        head = head.replace("<parsedwaveforms", '<parsedwaveforms leadlabels="I II III"')
    few = base64.b64encode(b"".join(chunks[:3])).decode()
    return text[: match.start()] + head + few + match.group(3) + text[match.end() :], chunks


def xml():
    for kind in ("muse", "cardiosoft"):
        for path in files(DATA / "ecg" / kind, "*.xml"):
            content = path.read_bytes()
            put(f"whole/{kind}", path.name, content)
            put(kind, path.name, {"muse": muse, "cardiosoft": cardiosoft}[kind](decoded(content)).encode("latin1"))
    for path in files(DATA / "ecg/sierra", "*.xml", "*.XML"):
        content = path.read_bytes()
        if b"AnnotatedECG" in content:
            put("whole/aecg", path.name, content)
            text = numbers(re.sub(r">\s+<", "><", content.decode()))
            put("aecg", path.name, re.sub(r"<annotation .*</annotation>", "", text, flags=re.S).encode())
            continue
        put("whole/sierra", path.name, content)
        text, chunks = sierra(decoded(content))
        put("sierra", path.name, text.encode("latin1", "replace"))
        for leads in (1, 3):
            put("xli", f"{path.stem}_{leads}", struct.pack("<HB", 5500, leads) + b"".join(chunks[:leads]))


def cut_wfdb(path):
    """Header and signal files of a record, as one seed for each of its first signal files."""
    lines = [line for line in path.read_text("latin1").splitlines() if line.strip() and not line.startswith("#")]
    record = lines[0].split()
    if "/" in record[0]:
        return
    by_file = {}
    for line in lines[1:]:
        by_file.setdefault(line.split()[0], []).append(line.split())
    for name, signals in by_file.items():
        form = re.match(r"(\d+)(?:x(\d+))?(?::\d+)?(?:\+(\d+))?", signals[0][1])
        code, offset = int(form.group(1)), int(form.group(3) or 0)
        width = sum(int(re.match(r"\d+(?:x(\d+))?", s[1]).group(1) or 1) for s in signals)
        stored = path.with_name(name)
        if not stored.is_file() or code not in BITS and code < 500:
            continue
        content = stored.read_bytes()
        header = [f"r {len(signals)} {record[2] if len(record) > 2 else 500}"]
        if code in BITS:
            frames = 24
            content = content[: offset + int(-(-frames * width * BITS[code] // 8)) + 4]
            header[0] += f" {frames}"
        for signal in signals:
            header.append(" ".join(["a.dat", signal[1], *signal[2:3]] + ([signal[8]] if len(signal) > 8 else [])))
        text = "\n".join(header).encode() + b"\n"
        if code < 500:
            put("wfdb", f"{path.stem}_{name}", text + BREAK + content)
        else:
            kind = {508: 0, 516: 1, 524: 2}[code] + 3 * (len(signals) - 1)
            put("wfdb_flac", f"{path.stem}_{name}", struct.pack("<BH", kind, 100) + content)


def whole_wfdb(path):
    """A record as one input, where the target has names for all of its files."""
    words = lambda text: [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    named = lambda text: [line[0] for line in words(text)[1:]]
    texts = [path.read_text("latin1")]
    is_joined = "/" in words(texts[0])[0][0]
    heads = {name: f"s{k + 1}" for k, name in enumerate(dict.fromkeys(named(texts[0]))) if name != "~"} if is_joined else {}
    texts += [path.with_name(f"{name}.hea").read_text("latin1") for name in heads]
    signals = [name for text in (texts[1:] or texts) for name in named(text) if name != "~"]
    stored = {name: f"{letter}.dat" for name, letter in zip(dict.fromkeys(signals), "abcdefghijkl")}
    if len(heads) > 3 or len(stored) > 2 or any(not path.with_name(name).is_file() for name in stored):
        return
    short = {**stored, **heads}
    texts = [re.sub(r"(?m)^\S+(?=\s)", lambda word: short.get(word.group(), word.group()), text) for text in texts]
    contents = [path.with_name(name).read_bytes() for name in stored] + [b""] * (2 - len(stored))
    put("whole/wfdb", "_".join(path.relative_to(DATA).parts), BREAK.join([texts[0].encode(), *contents, *(t.encode() for t in texts[1:])]))


def wfdb():
    for path in files(DATA / "ecg", "wfdb/*.hea", "derived/*.hea"):
        cut_wfdb(path)
    for path in files(DATA / "ecg", "wfdb/**/*.hea", "derived/*.hea"):
        if path.stem != "flac_3_constant":  # 20 KB that hold 17 million equal samples
            whole_wfdb(path)
    cut_wfdb(TESTDATA / "ecg/example.hea")
    one = b"s1 1 500 8\na.dat 16 200/mV I\n"
    data = bytes(range(16))
    put("wfdb", "fixed", b"r/2 1 500 16\ns1 8\ns2 8\n" + BREAK + data + BREAK + data + BREAK + one + BREAK + one)
    layout = b"s1 2 500 0\n~ 0 200/mV I\n~ 0 200/mV II\n"
    part = b"s2 1 500 8\na.dat 16 200/mV II\n"
    put("wfdb", "variable", b"r/3 2 500 24\ns1 0\ns2 8\n~ 16\n" + BREAK + data + BREAK + data + BREAK + layout + BREAK + part)


def dicom():
    for path in files(TESTDATA / "ecg/dicom", "*.dcm"):
        put("dicom", path.name, path.read_bytes())
        put("dicom_header", path.name, path.read_bytes())
    for path in files(DATA / "cmr/dicom_codecs", "*.dcm"):
        content = path.read_bytes()
        put("whole/dicom_header", path.name, content)
        put("dicom_header", path.name, content[:6000])
    try:
        import pydicom
    except ImportError:
        print("seeds: without pydicom, real DICOM ECGs are not cut")
        pydicom = None
    for path in files(DATA / "ecg/dicom", "*.dcm"):
        put("whole/dicom", path.name, path.read_bytes())
        put("whole/dicom_header", path.name, path.read_bytes())
        if pydicom is None:
            continue
        dataset = pydicom.dcmread(path)
        for group in dataset.WaveformSequence:
            size = group.NumberOfWaveformChannels * group.WaveformBitsAllocated // 8
            group.NumberOfWaveformSamples = 16
            group.WaveformData = group.WaveformData[: 16 * size]
        content = io.BytesIO()
        dataset.save_as(content)
        put("dicom", path.name, content.getvalue())
        put("dicom_header", path.name, content.getvalue())


def arrays():
    for path in files(DATA / "ecg/derived", "*.npy"):
        put("whole/npy", path.name, path.read_bytes())
    data = bytes(range(256))
    for kind, shape, size in (("<f4", (12, 4), 192), (">i2", (4, 12), 96), ("<f8", (1, 12, 2), 192), ("|u1", (12, 8), 96)):
        for order in (False, True):
            header = str({"descr": kind, "fortran_order": order, "shape": shape}).ljust(117).encode() + b"\n"
            content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data[:size]
            put("npy", f"{kind[1:]}_{order}.npy", content)
            put("npz", f"{kind[1:]}_{order}", content + BREAK + content[:60])
    for path in files(TESTDATA / "ecg/array", "*.npz"):
        put("npz", path.name, path.read_bytes())
    for path in files(DATA / "ecg/derived", "*.csv", "*.tsv"):
        content = path.read_bytes()
        put("whole/csv", path.name, content)
        lines = content.splitlines(keepends=True)
        put("csv", path.name, b"".join(lines[:20]))
        put("csv", "ends_" + path.name, b"".join(lines[:8] + lines[-8:]))
    wide = "# tool: ecg-prep 1\n# command: ecg-prep\n# created: now\n# synthetic: no\nI;II;V1\n1,5;2,5;-3\n4;5;6\n"
    put("csv", "comma", wide.encode())
    put("csv", "long", b"id,lead,time,mV\na,I,0,1\na,I,0.002,2\na,II,0,1\na,II,0.002,1e-3\n")
    put("csv", "rows", b"id,sample,I,II,III\na,0,1,2,3\na,1,1,2,3\nb,0,1,2,3\n")
    for kind in ("scp", "edf"):
        for path in files(TESTDATA / "ecg" / kind, "*"):
            put(kind, path.name, path.read_bytes())
    for k in range(24):
        put("hdf5", str(k), bytes((37 * k * i + k + i * i) % 256 for i in range(96)))


def chunks():
    """Twelve leads of a real record, as HDF5 stores them: shuffled or not, deflated or not."""
    try:
        import h5py
        import numpy
    except ImportError:
        print("seeds: without h5py, no chunks of HDF5")
        return
    for path in files(DATA / "ecg/derived", "*.hdf5"):
        with h5py.File(path) as file:
            leads = file["tracings"][0, :SAMPLES].T
        for kind, number in enumerate(("<f4", "<f8", "<i2")):
            values = numpy.ascontiguousarray(leads if kind < 2 else 1000 * leads, number)
            plain = values.tobytes()
            shuffled = values.reshape(-1, 1).view("u1").T.tobytes()
            for filters, content in enumerate((plain, shuffled, zlib.compress(plain), zlib.compress(shuffled))):
                put("chunk", f"{number[1:]}_{filters}", bytes([kind + 3 * filters, SAMPLES - 1]) + content)
        for level in (0, 9):
            put("chunk", f"level_{level}", bytes([6, SAMPLES - 1]) + zlib.compress(leads.astype("<f4").tobytes(), level))


def archives():
    small = [path for kind in ("wfdb", "edf", "scp", "dicom") for path in files(TESTDATA / "ecg" / kind, "*")][:14]
    for name, method in (("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED)):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", method) as archive:
            for path in small:
                archive.write(path, f"folder/{path.name}")
        put("archive", f"{name}.zip", content.getvalue())
    for name, form in (("ustar", tarfile.USTAR_FORMAT), ("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT)):
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w", format=form) as archive:
            for path in small[:5]:
                archive.add(path, ("long/" * 30 if form != tarfile.USTAR_FORMAT else "") + path.name)
        put("archive", f"{name}.tar", content.getvalue())
        put("archive", f"{name}.tar.gz", gzip.compress(content.getvalue()))
    put("archive", "one.gz", gzip.compress(small[0].read_bytes()))
    put("manifest", "list", b"a.hea\nb c.xml\n'*.xml'\n")
    put("manifest", "zeros", b"a.hea\0b.xml\0")
    put("manifest", "csv", b'id,path,sex\np1,"a,b.xml",f\np2,c.dcm,m\n')
    put("manifest", "tsv", b"path\tid\na\tp1\n")


def weights():
    for path in files(DATA.parent / "parity/tiny", "*.pt", "*.pth"):
        with zipfile.ZipFile(path) as archive:
            entry = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            content = archive.read(entry)
            put("pickle", path.name, content)
            storage = archive.read(entry.replace("data.pkl", "data/0"))[:2048]
            put("torch", path.stem, content + BREAK + storage + BREAK + storage)
        if path.stat().st_size < 65536:
            put("torch", path.name, path.read_bytes())
            put("import", path.name, path.read_bytes())
        put("whole/torch", path.name, path.read_bytes())
    try:
        import numpy
    except ImportError:
        print("seeds: without numpy, no pickled arrays")
        numpy = None
    if numpy is not None:
        layer = lambda *shape: {"kernel": numpy.ones(shape, "f4"), "bias": numpy.ones(shape[-1], "f4")}
        tree = {"params": {"Conv_0": layer(3, 3, 1, 2), "lin0": layer(1, 1, 2, 1)}}
        for protocol in (2, 3, 4, 5):
            content = pickle.dumps(tree, protocol)
            put("pickle", f"numpy_{protocol}", content)
            put("import", f"numpy_{protocol}", content)
    values = [None, True, 1, -(2**40), 1.5, "text", b"bytes", (1, 2), [1, [2]], {"a": {1}}, 2**80, "x" * 300]
    for protocol in (2, 4):
        put("pickle", f"values_{protocol}", pickle.dumps(values, protocol))
    bundled = TESTDATA.parent / "weights/compact.safetensors"
    with bundled.open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    kept, at = {"__metadata__": header.pop("__metadata__")}, 0
    for name, place in header.items():
        size = place["data_offsets"][1] - place["data_offsets"][0]
        if size <= 256 and at < 4096:
            kept[name] = {**place, "data_offsets": [at, at + size]}
            at += size
    text = json.dumps(kept).encode()
    put("weights", "compact", text)
    put("import", "compact.safetensors", struct.pack("<Q", len(text)) + text + bytes(at))
    kept["__metadata__"]["format_version"] = "0"
    put("weights", "old", json.dumps(kept).encode())


xml()
wfdb()
dicom()
arrays()
chunks()
archives()
weights()

"""Small SCP-ECG files, written here by hand from EN 1064, and what an independent reader (biosig, Debian package
biosig-tools) makes of them; for tests/ecg_scp.rs. There is no real SCP-ECG file among the test data.

    apt-get install biosig-tools
    python3 testdata/golden/scp_golden.py testdata/ecg/scp testdata/golden/scp.json

A formula, no patient: leads I, II, V1 and aVL, 200 samples at 500 Hz, 2.5 uV a step. Of each lead the first 8, the last 8 and
every 20th value, mV, as biosig's CSV export gives them.
"""
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

SMALL, OUT = (pathlib.Path(p) for p in sys.argv[1:3])
SMALL.mkdir(exist_ok=True)
LEADS = [(1, "I"), (2, "II"), (3, "V1"), (63, "aVL")]
N = 200
STEPS = [[((n * n * (k + 3)) // 50 + n * (7 * k - 5)) % 900 - 450 if n % 9 else 3000 - 41 * n for n in range(N)] for k in range(4)]


def huffman(values):
    """The default table: 0 -> 0, v -> v+... ones then 00 or 01, then 8 or 16 bits after ten."""
    bits = ""
    for v in values:
        if v == 0:
            bits += "0"
        elif abs(v) <= 8:
            bits += "1" * abs(v) + ("00" if v > 0 else "01")
        elif -128 <= v <= 127:
            bits += "1" * 9 + "0" + format(v & 0xFF, "08b")
        else:
            bits += "1" * 10 + format(v & 0xFFFF, "016b")
    bits += "0" * (-len(bits) % 16)
    return bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8))


def differences(x, order):
    if order == 0:
        return x
    if order == 1:
        return x[:1] + [b - a for a, b in zip(x, x[1:])]
    return x[:2] + [c - 2 * b + a for a, b, c in zip(x, x[1:], x[2:])]


def crc(data):
    value = 0xFFFF
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1 ^ 0x1021 if value & 0x8000 else value << 1) & 0xFFFF
    return value


def section(number, content, word=b"\0" * 6):
    content += b"\0" * (len(content) % 2)
    body = struct.pack("<HIBB", number, len(content) + 16, 20, 20) + word + content
    return struct.pack("<H", crc(body)) + body


def record(coded, order):
    one = b"".join(struct.pack("<BH", tag, len(v)) + v for tag, v in [
        (2, b"none\0"), (14, struct.pack("<HHHBBBBB5s", 0, 0, 0, 0, 20, 0, 0, 0, b"hand\0") + b"\0" * 20),
        (25, struct.pack("<HBB", 2026, 1, 1)), (26, bytes([0, 0, 0])), (255, b"")])
    three = bytes([len(LEADS), 4 | len(LEADS) << 3]) + b"".join(struct.pack("<IIB", 1, N, code) for code, _ in LEADS)
    data = [huffman(differences(x, order)) if coded else struct.pack(f"<{N}h", *differences(x, order)) for x in STEPS]
    six = struct.pack("<HHBB", 2500, 2000, order, 0) + b"".join(struct.pack("<H", len(d)) for d in data) + b"".join(data)
    sections = [(1, one)] + ([(2, struct.pack("<H", 19999))] if coded else []) + [(3, three), (6, six)]
    built = {number: section(number, content) for number, content in sections}
    at, pointers = 6 + 16 + 10 * 12, b""
    for number in range(12):
        length = len(built.get(number, b""))
        if number == 0:
            pointers += struct.pack("<HII", 0, 16 + 120, 7)
            continue
        pointers += struct.pack("<HII", number, length, at + 1 if length else 0)
        at += length
    body = section(0, pointers, b"SCPECG") + b"".join(built.values())
    body = struct.pack("<I", len(body) + 6) + body
    return struct.pack("<H", crc(body)) + body


def golden(path):
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "out.csv"
        subprocess.run(["save2gdf", "-CSV", str(path), str(out)], check=True, capture_output=True)
        lines = out.read_text().splitlines()
    names = [cell.strip('"').split(" ") for cell in lines[0].split(",")]
    assert [unit for _, unit in names] == ["[uV]"] * 4
    rows = list(zip(*([float(cell) / 1000 for cell in line.split(",")] for line in lines[1:])))
    signals = [{"name": name, "first": x[:8], "last": x[-8:], "every": x[::20], "valid": len(x), "sum": sum(x),
                "squares": sum(v * v for v in x)} for (name, _), x in zip(names, rows)]
    return {"rate_hz": 500.0, "samples": len(rows[0]), "step": 20, "signals": signals}


result = {"reader": "biosig-tools 2.5.0"}
for name, coded, order in [("plain", False, 0), ("huffman", True, 0), ("huffman_1", True, 1), ("huffman_2", True, 2)]:
    path = SMALL / f"{name}.scp"
    path.write_bytes(record(coded, order))
    result[name] = golden(path)
OUT.write_text(json.dumps(result).replace('{"name"', '\n{"name"') + "\n")

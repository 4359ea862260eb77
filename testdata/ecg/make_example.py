"""Writes example.hea and example.dat: a SIMULATED 12-lead ECG, 10 s at 500 Hz, about 75 beats a minute.

    python3 testdata/ecg/make_example.py testdata/ecg

Only the standard library. P, Q, R, S and T waves are Gaussians in time; each has an amplitude in leads I, II and V1-V6.
III, aVR, aVL and aVF follow from I and II as integers, so Einthoven's law holds to a rounding of half a step.
Baseline wander 0.25 Hz, noise 5 uV, both seeded: the same bytes on every machine.
"""
import math
import random
import struct
import sys

RATE, SECONDS, GAIN = 500, 10, 1000  # Hz, s, steps per mV
# wave: centre (s after the R peak), width (s), amplitude in mV for I, II, V1..V6
WAVES = [
    (-0.165, 0.022, [0.08, 0.14, 0.05, 0.07, 0.08, 0.08, 0.07, 0.06]),
    (-0.032, 0.008, [-0.06, -0.09, 0.00, 0.00, -0.02, -0.08, -0.10, -0.08]),
    (0.000, 0.011, [0.70, 1.10, 0.20, 0.50, 0.90, 1.50, 1.40, 1.00]),
    (0.030, 0.012, [-0.08, -0.15, -0.80, -1.20, -0.80, -0.40, -0.15, -0.06]),
    (0.270, 0.045, [0.20, 0.30, -0.05, 0.45, 0.50, 0.40, 0.35, 0.25]),
]
NAMES = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]


def main(folder):
    rng = random.Random(20260120)
    beats, at = [], 0.35
    while at < SECONDS:
        beats.append(at)
        at += 0.8 + 0.02 * math.sin(2 * math.pi * 0.2 * at) + rng.uniform(-0.005, 0.005)
    phases = [rng.uniform(0, 2 * math.pi) for _ in range(8)]
    frames = []
    for n in range(RATE * SECONDS):
        t = n / RATE
        value = [0.03 * math.sin(2 * math.pi * 0.25 * t + p) + rng.gauss(0, 0.005) for p in phases]
        for beat in beats:
            if abs(t - beat) < 0.6:
                for centre, width, amplitude in WAVES:
                    height = math.exp(-0.5 * ((t - beat - centre) / width) ** 2)
                    value = [v + a * height for v, a in zip(value, amplitude)]
        one, two, *chest = [round(v * GAIN) for v in value]
        limb = [one, two, two - one, -((one + two) // 2), one - two // 2, two - one // 2]
        frames.append(limb + chest)
    with open(f"{folder}/example.dat", "wb") as out:
        for frame in frames:
            out.write(struct.pack("<12h", *frame))
    with open(f"{folder}/example.hea", "w", newline="\n") as out:
        out.write(f"example 12 {RATE} {len(frames)}\n")
        for k, name in enumerate(NAMES):
            total = sum(frame[k] for frame in frames) & 0xFFFF
            checksum = total - 0x10000 if total >= 0x8000 else total
            out.write(f"example.dat 16 {GAIN}(0)/mV 16 0 {frames[0][k]} {checksum} 0 {name}\n")
        out.write("# SIMULATED by testdata/ecg/make_example.py; no patient\n")


main(sys.argv[1])

"""Reads and writes the files between the stages with h5py.

    python3 h5py_files.py read FILE...    one JSON object a file: attributes, and of each dataset shape, type, chunks,
                                          filters and the sum of its finite values
    python3 h5py_files.py same NAME...    of NAME.h5 and NAME.npy with the same ECGs: how many records, and how many values
                                          are other ones
    python3 h5py_files.py write FOLDER    ecg.h5, features.h5 and cine.h5 as a user of h5py would write them
"""
import json
import sys

import h5py
import numpy as np


def plain(value):
    return value.item() if hasattr(value, "item") else value


def describe(path):
    said = {"attributes": {}, "datasets": {}}
    with h5py.File(path) as file:
        said["attributes"] = {name: plain(value) for name, value in file.attrs.items()}

        def visit(name, item):
            if not isinstance(item, h5py.Dataset):
                return
            values = item.asstr()[:].tolist() if item.dtype == object else item[:].astype("f8")
            total = values if item.dtype == object else float(values[np.isfinite(values)].sum())
            said["datasets"][name] = {
                "shape": item.shape, "dtype": str(item.dtype), "chunks": item.chunks,
                "compression": item.compression, "shuffle": item.shuffle, "content": total,
            }

        file.visititems(visit)
    return said


def same(name):
    with h5py.File(name + ".h5") as file:
        packed, plain = file["ecg"][:], np.load(name + ".npy")
    assert packed.shape == plain.shape and packed.dtype == plain.dtype, (packed.shape, plain.shape, plain.dtype)
    return len(packed), int((packed != plain).sum())


def write(folder):
    n = np.arange(5000)
    wave = np.stack([np.sin(n * 0.01 * (lead + 1)) for lead in range(12)])
    with h5py.File(folder + "/ecg.h5", "w") as file:  # doubles, automatic chunks, fixed-length ids
        file.create_dataset("ecg", data=np.stack([wave, -wave]), chunks=True)
        file["id"] = np.array([b"p1", b"p2"])
        file.attrs["fs"] = 500
    with h5py.File(folder + "/features.h5", "w") as file:  # half precision, variable-length ids
        file["feature"] = np.ones((2, 8, 48), "f2")
        file["id"] = ["p1", "p2"]
        file.attrs["format"] = "ecgflow.features"
        file.attrs["format_version"] = 1
    with h5py.File(folder + "/cine.h5", "w") as file:  # bytes, compressed, several clips a chunk
        clip = np.full((3, 8, 32, 32), 51, "u1")
        file.create_dataset("cine", data=clip, chunks=(3, 8, 32, 32), compression="gzip")
        file["id"] = np.array(["p1", "p2", "p\u00e9"], dtype=h5py.string_dtype())


if sys.argv[1] == "read":
    for path in sys.argv[2:]:
        print(json.dumps(describe(path)))
elif sys.argv[1] == "same":
    for name in sys.argv[2:]:
        print(*same(name))
else:
    write(sys.argv[2])

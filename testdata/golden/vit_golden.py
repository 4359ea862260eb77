"""Golden numbers of the vision transformer, of the masked autoencoder, and of one optimiser step of each, by PyTorch alone.

Written after timm's and the MAE authors' descriptions, for this recording; weights and clips follow the rule of the parity
data: a stream of numbers from each tensor's name.
python testdata/golden/vit_golden.py testdata/golden/vit.json
"""

import json
import sys

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from rule import units

FRAMES, IMAGE, PATCH, WIDTH, DEPTH, HEADS = 8, 32, 8, 32, 2, 4
INNER, DECODER_DEPTH, DECODER_HEADS = 16, 1, 2


def fill(name, shape):
    n = int(np.prod(shape))
    if len(shape) == 1 and name.endswith(".weight"):
        centre, scale = 1.0, 0.1
    elif len(shape) == 1 or name == "pos_embed":
        centre, scale = 0.0, 0.05
    else:
        centre, scale = 0.0, np.float32((3.0 / (n / shape[0])) ** 0.5)
    return torch.tensor(np.float32(centre) + np.float32(scale) * units(name, n)).reshape(shape)


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.qkv, self.proj, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) / (c // self.heads) ** 0.5).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, c))


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, eps=1e-6), Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width, eps=1e-6), Mlp(width)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, frames):
        super().__init__()
        self.frames = frames
        if frames == FRAMES:
            self.proj = nn.Conv2d(FRAMES, WIDTH, PATCH, PATCH)
        else:
            self.proj = nn.Conv3d(1, WIDTH, (frames, PATCH, PATCH), (frames, PATCH, PATCH))

    def forward(self, clip):
        x = self.proj(clip) if self.frames == FRAMES else self.proj(clip[:, None])
        return x.flatten(2).transpose(1, 2)


class Vit(nn.Module):
    def __init__(self, frames):
        super().__init__()
        self.patches = FRAMES // frames * (IMAGE // PATCH) ** 2
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.zeros(1, self.patches + 1, WIDTH))
        self.patch_embed = PatchEmbed(frames)
        self.blocks = nn.ModuleList([Block(WIDTH, HEADS) for _ in range(DEPTH)])
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)

    def encode(self, tokens):
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(len(tokens), -1, -1)
        x = torch.cat([cls, tokens], 1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def embed(self, clip):
        return self.patch_embed(clip) + self.pos_embed[:, 1:]

    def features(self, clip):
        return self.encode(self.embed(clip))[:, 0]


class Phenotype(Vit):
    def __init__(self, frames):
        super().__init__(frames)
        self.head = nn.Sequential(nn.Linear(WIDTH, 10), nn.GELU(), nn.Linear(10, 8), nn.GELU(), nn.Linear(8, 3))

    def forward(self, clip):
        return self.head(self.features(clip))


class Mae(Vit):
    def __init__(self):
        super().__init__(FRAMES)
        self.decoder_embed = nn.Linear(WIDTH, INNER)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, INNER))
        self.decoder_pos_embed = nn.Parameter(torch.zeros(1, self.patches + 1, INNER))
        self.decoder_blocks = nn.ModuleList([Block(INNER, DECODER_HEADS) for _ in range(DECODER_DEPTH)])
        self.decoder_norm = nn.LayerNorm(INNER, eps=1e-6)
        self.decoder_pred = nn.Linear(INNER, FRAMES * PATCH * PATCH)

    def patchify(self, clip):
        b, side = len(clip), IMAGE // PATCH
        x = clip.reshape(b, FRAMES, side, PATCH, side, PATCH)
        return x.permute(0, 2, 4, 1, 3, 5).reshape(b, side * side, FRAMES * PATCH * PATCH)

    def forward(self, clip, seen):
        """`seen` (B, M): numbers of the patches that are seen. The loss is over all others."""
        tokens = self.embed(clip)
        kept = torch.gather(tokens, 1, seen[:, :, None].expand(-1, -1, WIDTH))
        x = self.decoder_embed(self.encode(kept))
        full = self.mask_token.repeat(len(clip), self.patches, 1)
        full = full.scatter(1, seen[:, :, None].expand(-1, -1, INNER), x[:, 1:])
        x = torch.cat([x[:, :1], full], 1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            x = block(x)
        pred = self.decoder_pred(self.decoder_norm(x))[:, 1:]
        mask = torch.ones(len(clip), self.patches).scatter(1, seen, 0.0)
        each = ((pred - self.patchify(clip)) ** 2).mean(-1)
        return (each * mask).sum() / mask.sum()


def numbers(x):
    return [float(v) for v in x.detach().double().flatten()]


def filled(net):
    net.load_state_dict({name: fill(name, tuple(t.shape)) for name, t in net.state_dict().items()})
    return net


def stepped(net, loss, **settings):
    """The loss, the norm of its gradient, and every tensor after one AdamW step: its first values and its sum."""
    optimiser = torch.optim.AdamW(net.parameters(), **settings)
    loss.backward()
    norm = sum(float((p.grad.double() ** 2).sum()) for p in net.parameters()) ** 0.5
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimiser.step()
    change = {name: float((p.detach() - before[name]).double().abs().sum()) for name, p in net.named_parameters()}
    after = {name: numbers(p.flatten()[:8]) for name, p in net.named_parameters()}
    return {"loss": float(loss.detach()), "gradient_norm": norm, "after": after, "change": change}


def main(out):
    clip = torch.tensor(units("clip", 2 * FRAMES * IMAGE * IMAGE)).reshape(2, FRAMES, IMAGE, IMAGE)
    golden = {}
    for frames in (8, 2):
        net = filled(Phenotype(frames))
        golden[f"phenotype{frames}"] = {"features": numbers(net.features(clip)), "outputs": numbers(net(clip))}
    net = filled(Phenotype(8))
    target, known = torch.tensor([[0.5, -1.0, 0.0], [1.5, 0.25, -0.5]]), torch.tensor([[1.0, 1, 0], [1, 1, 1]])
    loss = (((net(clip) - target) ** 2) * known).sum() / known.sum()
    golden["phenotype_step"] = stepped(net, loss, lr=1e-3, betas=(0.9, 0.999), weight_decay=0.0)
    net = filled(Mae())
    seen = torch.tensor([[3, 0, 10, 7], [15, 8, 1, 2]])
    golden["seen"] = seen.tolist()
    golden["mae_step"] = stepped(net, net(clip, seen), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05)
    with open(out, "w") as file:
        json.dump(golden, file)
        file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])

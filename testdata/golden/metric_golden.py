"""Golden numbers of the scores of `src/metric`: scikit-learn, scipy and scikit-image on seeded cases.

pip install numpy scipy scikit-learn scikit-image
python testdata/golden/metric_golden.py testdata/golden/metric.json
Pictures and feature vectors are formulas, written out again in tests/metric.rs; tables stand in the file.
"""

import json
import sys

import numpy as np
import scipy.linalg
import scipy.stats
import sklearn.metrics as sk
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

random = np.random.default_rng(5)


def listed(values):
    return [float(v) for v in np.asarray(values).ravel()]


def regression():
    truth = np.round(random.normal(140.0, 30.0, 60), 3)
    predicted = np.round(truth * 0.8 + random.normal(25.0, 12.0, 60), 3)
    return {
        "truth": listed(truth),
        "predicted": listed(predicted),
        "mae": sk.mean_absolute_error(truth, predicted),
        "rmse": float(np.sqrt(sk.mean_squared_error(truth, predicted))),
        "r2": sk.r2_score(truth, predicted),
        "pearson": float(scipy.stats.pearsonr(truth, predicted)[0]),
        "bias": float(np.mean(predicted - truth)),
        "sd": float(np.std(predicted - truth, ddof=1)),
    }


def ece(truth, probability, bins=10):
    place = np.minimum((probability * bins).astype(int), bins - 1)
    parts = [place == b for b in range(bins)]
    return float(sum(p.sum() * abs(probability[p].mean() - truth[p].mean()) for p in parts if p.any()) / len(truth))


def binary():
    truth = random.random(80) < 0.35
    # Two decimals: many ties.
    probability = np.clip(np.round(0.25 * truth + 0.6 * random.random(80), 2), 0.0, 1.0)
    called = probability >= 0.5
    tn, fp, fn, tp = sk.confusion_matrix(truth, called).ravel()
    fpr, tpr, _ = sk.roc_curve(truth, probability, drop_intermediate=False)
    return {
        "truth": [int(t) for t in truth],
        "probability": listed(probability),
        "auc": sk.roc_auc_score(truth, probability),
        "accuracy": sk.accuracy_score(truth, called),
        "sensitivity": sk.recall_score(truth, called),
        "specificity": float(tn / (tn + fp)),
        "ppv": sk.precision_score(truth, called),
        "npv": float(tn / (tn + fn)),
        "f1": sk.f1_score(truth, called),
        "brier": sk.brier_score_loss(truth, probability),
        "ece": ece(truth, probability),
        "roc": [listed(fpr), listed(tpr)],
    }


def classes():
    k, n = 4, 90
    truth = random.integers(0, k, n)
    raw = random.random((n, k)) + 0.6 * np.eye(k)[truth]
    probability = raw / raw.sum(1, keepdims=True)
    called = probability.argmax(1)
    return {
        "truth": [int(t) for t in truth],
        "probability": listed(probability),
        "accuracy": sk.accuracy_score(truth, called),
        "auc": sk.roc_auc_score(truth, probability, multi_class="ovr", average="macro"),
        "sensitivity": sk.recall_score(truth, called, average="macro"),
        "ppv": sk.precision_score(truth, called, average="macro"),
        "f1": sk.f1_score(truth, called, average="macro"),
        "brier": float(((probability - np.eye(k)[truth]) ** 2).sum(1).mean()),
        "ece": ece((called == truth).astype(float), probability.max(1)),
        "confusion": sk.confusion_matrix(truth, called).tolist(),
    }


def picture(rows, columns, speed, shift):
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float64)
    values = 0.5 + 0.3 * np.sin(speed * x + shift) * np.cos(0.7 * speed * y) + 0.15 * np.sin(0.9 * x * y / 40.0 + shift)
    return values.astype(np.float32).astype(np.float64)


def pictures():
    a, b = picture(60, 52, 0.31, 0.0), picture(60, 52, 0.33, 0.2)
    options = dict(data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    return {"ssim": float(structural_similarity(a, b, **options)), "psnr": float(peak_signal_noise_ratio(a, b, data_range=1.0))}


def vectors(n, width, speed, lift):
    i, j = np.mgrid[0:n, 0:width].astype(np.float64)
    u = np.sin(12.9898 * (i + 1) * speed + 78.233 * (j + 1)) * 43758.5453
    values = (u - np.floor(u)) * (1.0 + 0.1 * j) + lift * j
    return values.astype(np.float32).astype(np.float64)


def frechet(a, b):
    s1, s2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(s1 @ s2)
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s1 + s2 - 2 * np.real(root)))


def cover(real, fake, k=5):
    distance = lambda a, b: np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
    ball = lambda set_: np.sort(distance(set_, set_), 1)[:, k]
    r, f, d = ball(real), ball(fake), distance(real, fake)
    return {
        "precision": float((d < r[:, None]).any(0).mean()),
        "recall": float((d < f[None]).any(1).mean()),
        "density": float((d < r[:, None]).sum(0).mean() / k),
        "coverage": float((d.min(1) < r).mean()),
    }


golden = {
    "regression": regression(),
    "binary": binary(),
    "classes": classes(),
    "pictures": pictures(),
    "frechet": {
        "wide": frechet(vectors(80, 12, 1.0, 0.0), vectors(70, 12, 1.3, 0.02)),
        "square": frechet(vectors(300, 40, 1.0, 0.0), vectors(250, 40, 1.7, 0.01)),
    },
    "cover": cover(vectors(60, 12, 1.0, 0.0), vectors(50, 12, 1.3, 0.02)),
}
with open(sys.argv[1], "w") as file:
    json.dump(golden, file, indent=1)
    file.write("\n")

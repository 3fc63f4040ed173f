"""PyTorch's time for normalized cuts of 256 x 128 features, 100 eigenvectors, 128 clusters, 5 iterations, as
kernels.lua measures ours. Prints one JSON line."""
import json
import statistics
import time

import torch

from peer_model import kmeans


def cut(x, eigenvectors, clusters):
    unit = torch.nn.functional.normalize(x, dim=1)
    w = (unit @ unit.T).abs().fill_diagonal_(0)
    degree = w.sum(0)
    root = degree.rsqrt()
    laplacian = root[:, None] * (torch.diag(degree) - w) * root
    _, vectors = torch.linalg.eigh(laplacian)
    embedded = root[:, None] * vectors[:, :eigenvectors]
    labels, _ = kmeans(embedded / vectors[0, 0], clusters, 5)
    members = torch.nn.functional.one_hot(labels, clusters).to(x.dtype)
    return labels, members.T @ x / members.sum(0).clamp(min=1)[:, None]


def main():
    x, seconds = torch.nn.functional.normalize(torch.randn(256, 128), dim=1), []
    for _ in range(52):
        start = time.perf_counter()
        cut(x, 100, 128)
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"cut_ms": statistics.median(seconds[1:]) * 1e3}))


if __name__ == "__main__":
    main()

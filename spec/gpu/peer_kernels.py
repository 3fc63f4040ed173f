"""The work of kernels.lua in PyTorch, under the same names, to compare each line with. Prints a JSON line {name: us}.

bf16 activations are channels-last. A figure is the median of seven timings, each of `--repeats` calls.
"""
import argparse
import json
import os
import statistics
import sys
import time

import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench"))
from peer_cuts import cut  # noqa: E402
from peer_model import MemoryBank, kmeans  # noqa: E402

STAGES = [(64, 32), (128, 16), (256, 8), (512, 4)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda", help="cpu only serves to try the script")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    device, found = torch.device(options.device), {}
    torch.backends.cudnn.benchmark = True

    def wait():
        if device.type == "cuda":
            torch.cuda.synchronize()

    def measure(name, f):
        try:
            for _ in range(3):
                f()
            wait()
            times = []
            for _ in range(7):
                start = time.perf_counter()
                for _ in range(options.repeats):
                    f()
                wait()
                times.append((time.perf_counter() - start) / options.repeats)
            found[name] = statistics.median(times) * 1e6
        except RuntimeError as error:  # the others still count
            print(f"peer_kernels: {name}: {error}", file=sys.stderr)

    def scaled(n):
        return max(int(n * options.scale), 8)

    def half(*shape):
        x = torch.rand(*shape, device=device).bfloat16()
        return x.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else x

    n = scaled(2**26)
    x, y = torch.rand(n, device=device), torch.rand(n, device=device)
    x16 = x.bfloat16()
    measure("copy f32", lambda: y.copy_(x))
    measure("add f32", lambda: x + y)
    measure("relu bf16", lambda: x16.relu())
    measure("cast f32 to bf16", lambda: x.bfloat16())
    measure("sum f32", lambda: x.sum())
    rows = x[: n // 128 * 128].view(-1, 128)
    measure("normalize f32, rows of 128", lambda: F.normalize(rows, dim=1))
    measure("softmax f32, rows of 128", lambda: rows.softmax(1))
    weight, fused = x.clone().requires_grad_(), device.type == "cuda"
    weight.grad = y
    sgd = torch.optim.SGD([weight], 1e-3, momentum=0.9, weight_decay=1e-4, fused=fused, foreach=not fused)
    measure("SGD f32, with momentum and weight decay", sgd.step)
    del weight, sgd

    def there_and_back(f, *inputs):
        inputs = [t.requires_grad_() for t in inputs]
        dy = torch.ones_like(f(*inputs))

        def call():
            torch.autograd.grad(f(*inputs), inputs, dy)

        return call

    for channels, extent in STAGES:
        images = max(n // (channels * extent * extent), 1)
        maps, residual = half(images, channels, extent, extent), half(images, channels, extent, extent)
        w, b = torch.ones(channels, device=device), torch.zeros(channels, device=device)
        mean, var = torch.zeros(channels, device=device), torch.ones(channels, device=device)
        name = f"{channels} channels, {extent} x {extent}"

        def norm(t, w=w, b=b, mean=mean, var=var):
            return F.batch_norm(t, mean, var, w, b, training=True)

        with torch.no_grad():
            measure("batch norm + relu bf16, " + name, lambda: F.relu(norm(maps), inplace=True))
            measure("batch norm + residual + relu bf16, " + name,
                    lambda: F.relu(norm(maps).add_(residual), inplace=True))
        measure("batch norm + relu bf16 and gradients, " + name,
                there_and_back(lambda t, u, v: F.relu(norm(t, u, v), inplace=True), maps, w, b))
        del maps, residual
    maps = half(max(n // (64 * 112 * 112), 1), 64, 112, 112)
    measure("max pool 3 x 3 bf16, 64 channels, 112 x 112", lambda: F.max_pool2d(maps, 3, 2, 1))
    del maps, x, y, x16, rows

    m = scaled(8192)
    a, b = half(m, m), half(m, m)
    measure("product bf16, 8192^3", lambda: a @ b)
    for channels, extent in STAGES:
        maps, w = half(scaled(512), channels, extent, extent), half(channels, channels, 3, 3)
        name = f"{channels} channels, {extent} x {extent}"
        with torch.no_grad():
            measure("3 x 3 convolution bf16, " + name, lambda: F.conv2d(maps, w, padding=1))
        measure("3 x 3 convolution bf16 and gradients, " + name,
                there_and_back(lambda t, v: F.conv2d(t, v, padding=1), maps, w))

    features = F.normalize(torch.randn(256, 128, device=device), dim=1)
    size = scaled(50000)
    bank = MemoryBank(size, 128)
    bank.memory = bank.memory.to(device)
    index = torch.randint(0, size, (256,), device=device)

    def bank_step(loss_and_gradient=there_and_back(lambda t: bank.loss(t, index), features.clone())):
        loss_and_gradient()
        bank.update(features, index)

    measure("memory bank loss, gradient, update, 256 against 50,000", bank_step)
    with torch.no_grad():
        measure("k-means 256 x 128, 128 groups, 5 iterations", lambda: kmeans(features, 128, 5))
        measure("normalized cuts 256 x 128, 100 eigenvectors, 128 groups", lambda: cut(features, 100, 128))
        memory = F.normalize(torch.randn(size, 128, device=device), dim=1)
        labels, k = torch.randint(0, 10, (size,), device=device), min(200, size)
        queries = F.normalize(torch.randn(scaled(10000), 128, device=device), dim=1)

        def knn():
            near, at = (queries @ memory.T).topk(k, dim=1)
            votes = torch.zeros(len(queries), 10, device=device)
            votes.scatter_add_(1, labels[at], (near / 0.1).exp())
            votes.argmax(1)

        measure("kNN, 10,000 against 50,000", knn)
    print(json.dumps(found))


main()

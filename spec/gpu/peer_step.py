"""The peer of `make gpu-bench`: one training step in PyTorch on one GPU. Prints one JSON line.

    python3 peer_step.py npid --mode eager|amp|compile|graph       NPID + CLD, ResNet-18 for CIFAR, as step.lua does
    python3 peer_step.py resnet50 --mode ...                        ResNet-50 at 224, forward + backward + SGD

eager is f32 with PyTorch's defaults; amp is channels-last with bf16 autocast; compile adds torch.compile to amp, graph
captures amp's whole step as one CUDA graph. The data set lies on the device as u8 and the views are made there, for a
whole batch at once by grid_sample, whose bilinear filter does not widen where it shrinks: less work than ours.
"""
import argparse
import json
import os
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench"))
from peer_model import MemoryBank, ResNet18, cld_loss  # noqa: E402

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def grey(x):
    return (x * x.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)


class Augment:
    """base of METHODS for a batch of u8 images (n, 3, h, w) on the device: crop, jitter, grey, flip, normalize."""

    def __init__(self, device):
        self.mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1)
        self.std = torch.tensor(STD, device=device).view(1, 3, 1, 1)
        self.yiq = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]], device=device)
        self.rgb = torch.linalg.inv(self.yiq)

    def __call__(self, images):
        n, device = len(images), images.device

        def uniform(low, high):
            return torch.empty(n, 1, 1, 1, device=device).uniform_(low, high)

        area, ratio = uniform(0.2, 1).flatten(), torch.exp(torch.empty(n, device=device).uniform_(-0.28768, 0.28768))
        w, h = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
        x0 = (1 - w) * (2 * torch.rand(n, device=device) - 1)
        y0 = (1 - h) * (2 * torch.rand(n, device=device) - 1)
        flip = torch.where(torch.rand(n, device=device) < 0.5, -1.0, 1.0)
        zero = torch.zeros_like(w)
        theta = torch.stack([torch.stack([w * flip, zero, x0], 1), torch.stack([zero, h, y0], 1)], 1)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        x = F.grid_sample(images.float() / 255, grid, align_corners=False, padding_mode="reflection")
        x = (x * uniform(0.6, 1.4)).clamp(0, 1)
        mean = grey(x).mean((2, 3), keepdim=True)
        x = (mean + (x - mean) * uniform(0.6, 1.4)).clamp(0, 1)
        x = torch.lerp(grey(x), x, uniform(0.6, 1.4)).clamp(0, 1)
        angle = uniform(-0.4, 0.4).flatten() * 6.2832
        c, s, one = angle.cos(), angle.sin(), torch.ones_like(angle)
        turn = torch.stack([one, zero, zero, zero, c, -s, zero, s, c], 1).view(n, 3, 3)
        matrix = self.rgb @ turn @ self.yiq
        x = torch.einsum("nij,njhw->nihw", matrix, x).clamp(0, 1)
        x = torch.where(torch.rand(n, 1, 1, 1, device=device) < 0.2, grey(x), x)
        return (x - self.mean) / self.std


def npid(options, device):
    net = ResNet18(width=options.width).to(device)
    bank = MemoryBank(options.bank, 128)
    bank.memory = bank.memory.to(device)
    images = torch.randint(0, 256, (options.bank, 3, 32, 32), dtype=torch.uint8, device=device)
    augment, index = Augment(device), torch.zeros(options.batch, dtype=torch.long, device=device)

    def forward(views):
        (f1, g1), (f2, g2) = net(views[0]), net(views[1])
        return f1.float(), g1.float(), f2.float(), g2.float()

    def loss_of(features):
        f1, g1, f2, g2 = features
        loss = (bank.loss(f1, index) + bank.loss(f2, index)) / 2 + cld_loss(g1, g2, options.clusters, 0.2)
        return loss

    def finish(features):
        bank.update(features[2].detach(), index)
        bank.update(features[0].detach(), index)

    def load(step):
        index.copy_(torch.randperm(options.bank)[: options.batch], non_blocking=True)

    def inputs():
        return [augment(images[index]) for _ in range(2)]

    return net, forward, loss_of, finish, load, inputs, 2 * options.batch


def resnet50(options, device):
    import torchvision

    net = torchvision.models.resnet50().to(device)
    images = torch.randn(options.batch, 3, 224, 224, device=device)
    labels = torch.randint(0, 1000, (options.batch,), device=device)
    return (net, lambda x: net(x[0]), lambda y: F.cross_entropy(y.float(), labels), lambda _: None, lambda _: None,
            lambda: [images], options.batch)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["npid", "resnet50"])
    parser.add_argument("--mode", choices=["eager", "amp", "compile", "graph"], default="eager")
    for name, default in {"batch": 256, "steps": 50, "width": 64, "clusters": 128, "bank": 50000}.items():
        parser.add_argument("--" + name, type=int, default=default)
    parser.add_argument("--device", default="cuda", help="cpu only serves to try the script")
    options = parser.parse_args()
    device = torch.device(options.device)
    on_gpu = device.type == "cuda"
    torch.manual_seed(1)
    torch.backends.cudnn.benchmark = True
    net, forward, loss_of, finish, load, inputs, count = (npid if options.what == "npid" else resnet50)(options, device)
    amp = options.mode != "eager"
    if amp:
        net.to(memory_format=torch.channels_last)
    if options.mode == "compile":
        forward = torch.compile(forward)
    sgd = torch.optim.SGD(net.parameters(), 0.03, momentum=0.9, weight_decay=7e-4, foreach=True)

    def work():
        views = inputs()
        if amp:
            views = [view.contiguous(memory_format=torch.channels_last) for view in views]
        with torch.autocast(device.type, torch.bfloat16, enabled=amp):
            features = forward(views)
        loss = loss_of(features)
        sgd.zero_grad(set_to_none=True)
        loss.backward()
        sgd.step()
        if isinstance(features, tuple):
            finish(features)
        return loss

    step = work
    if options.mode == "graph":
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for i in range(4):
                load(i)
                work()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = work()

        def step():
            graph.replay()
            return captured

    def wait():
        if on_gpu:
            torch.cuda.synchronize()

    for i in range(5 if on_gpu else 1):
        load(i)
        loss = step()
    wait()
    rounds = []
    for _ in range(5 if on_gpu else 1):
        start = time.perf_counter()
        for i in range(max(options.steps // 5, 1)):
            load(i)
            loss = step()
        wait()
        rounds.append((time.perf_counter() - start) / max(options.steps // 5, 1))
    seconds = statistics.median(rounds)
    print(json.dumps({
        "what": "PyTorch " + torch.__version__.split("+")[0], "mode": options.mode, "loss": loss.item(),
        "step_ms": seconds * 1e3, "views_per_s": count / seconds,
        "peak_mb": torch.cuda.max_memory_allocated() / 1e6 if on_gpu else 0,
    }))


main()

"""The peer of `make gpu-bench`: one training step in PyTorch on one GPU. Prints one JSON line.

    python3 peer_step.py npid --mode eager|amp|graph|compile|compile_graph    NPID + CLD, ResNet-18 for CIFAR, as step.lua
    python3 peer_step.py resnet50 --mode ...                                   ResNet-50 at 224: forward, backward, SGD

eager is f32 with tf32 in convolutions and products; amp is channels-last with bf16 autocast, and with losses as in
eager, which is what ours does; graph is amp's whole step as one CUDA graph; compile is amp with torch.compile over
network, views and loss; and compile_graph is that as one CUDA graph. The data set lies on the device as u8. The views
are made there by grid_sample, for a whole batch at once; its bilinear filter does not widen when it shrinks an image,
so it does less work than ours. Nothing in a step waits for the device.
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
from peer_model import MemoryBank, ResNet18, cld_loss  # noqa: E402

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
MODES = ["eager", "amp", "graph", "compile", "compile_graph"]


class Augment:
    """The base augmentation of u8 images (n, 3, h, w) on the device: crop, jitter, grey, flip, normalize."""

    def __init__(self, device):
        self.mean = torch.tensor(MEAN).view(1, 3, 1, 1).to(device)
        self.std = torch.tensor(STD).view(1, 3, 1, 1).to(device)
        self.luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1).to(device)
        yiq = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
        self.yiq, self.rgb = yiq.to(device), torch.linalg.inv(yiq).to(device)

    def grey(self, x):
        return (x * self.luma).sum(1, keepdim=True)

    def __call__(self, images):
        n, device = len(images), images.device

        def uniform(low, high):
            return torch.rand(n, 1, 1, 1, device=device) * (high - low) + low

        area, ratio = uniform(0.2, 1).flatten(), torch.exp(uniform(-0.28768, 0.28768).flatten())
        w, h = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
        x0 = (1 - w) * (2 * torch.rand(n, device=device) - 1)
        y0 = (1 - h) * (2 * torch.rand(n, device=device) - 1)
        flip = torch.where(torch.rand(n, device=device) < 0.5, -1.0, 1.0)
        zero = torch.zeros_like(w)
        theta = torch.stack([torch.stack([w * flip, zero, x0], 1), torch.stack([zero, h, y0], 1)], 1)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        x = F.grid_sample(images.float() / 255, grid, align_corners=False, padding_mode="reflection")
        x = (x * uniform(0.6, 1.4)).clamp(0, 1)
        mean = self.grey(x).mean((2, 3), keepdim=True)
        x = (mean + (x - mean) * uniform(0.6, 1.4)).clamp(0, 1)
        x = torch.lerp(self.grey(x), x, uniform(0.6, 1.4)).clamp(0, 1)
        angle = uniform(-0.4, 0.4).flatten() * 6.2832
        c, s, one = angle.cos(), angle.sin(), torch.ones_like(angle)
        turn = torch.stack([one, zero, zero, zero, c, -s, zero, s, c], 1).view(n, 3, 3)
        matrix = self.rgb @ turn @ self.yiq
        x = torch.einsum("nij,njhw->nihw", matrix, x).clamp(0, 1)
        x = torch.where(torch.rand(n, 1, 1, 1, device=device) < 0.2, self.grey(x), x)
        return (x - self.mean) / self.std


class Npid:
    weight_decay = 7e-4

    def __init__(self, options, device):
        self.net = ResNet18(width=options.width).to(device)
        self.bank = MemoryBank(options.bank, 128)
        self.bank.memory = self.bank.memory.to(device)
        self.images = torch.randint(0, 256, (options.bank, 3, 32, 32), dtype=torch.uint8, device=device)
        self.order = torch.randperm(options.bank, device=device)
        self.index = torch.zeros(options.batch, dtype=torch.long, device=device)
        self.augment, self.clusters, self.count = Augment(device), options.clusters, 2 * options.batch

    def load(self, step):
        """Puts the indices of the step's images into self.index, where a graph reads them."""
        n = len(self.index)
        start = step * n % (len(self.order) - n + 1)
        self.index.copy_(self.order[start : start + n])

    def inputs(self):
        images = self.images[self.index]
        return [self.augment(images) for _ in range(2)]

    def forward(self, views):
        return [features.float() for view in views for features in self.net(view)]

    def loss(self, features):
        f1, g1, f2, g2 = features
        return (self.bank.loss(f1, self.index) + self.bank.loss(f2, self.index)) / 2 + cld_loss(g1, g2, self.clusters, 0.2)

    def finish(self, features):
        self.bank.update(features[2].detach(), self.index)
        self.bank.update(features[0].detach(), self.index)


class ResNet50:
    weight_decay = 1e-4

    def __init__(self, options, device):
        import torchvision

        self.net, self.count = torchvision.models.resnet50().to(device), options.batch
        self.images = torch.randn(options.batch, 3, options.size, options.size, device=device)
        if options.mode != "eager":
            self.images = self.images.contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(0, 1000, (options.batch,), device=device)

    def load(self, step):
        pass

    def inputs(self):
        return [self.images]

    def forward(self, views):
        return [self.net(views[0]).float()]

    def loss(self, features):
        return F.cross_entropy(features[0], self.labels)

    def finish(self, features):
        pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["npid", "resnet50"])
    parser.add_argument("--mode", choices=MODES, default="eager")
    sizes = {"batch": 256, "steps": 50, "width": 64, "clusters": 128, "bank": 50000, "size": 224}
    for name, default in sizes.items():
        parser.add_argument("--" + name, type=int, default=default)
    parser.add_argument("--device", default="cuda", help="cpu only serves to try the script")
    options = parser.parse_args()
    device = torch.device(options.device)
    on_gpu = device.type == "cuda"
    torch.manual_seed(1)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")  # tf32, as ours in losses
    task = (Npid if options.what == "npid" else ResNet50)(options, device)
    amp = options.mode != "eager"
    inputs, forward, loss_of = task.inputs, task.forward, task.loss
    if amp:
        task.net.to(memory_format=torch.channels_last)
    if options.mode.startswith("compile"):
        inputs, forward, loss_of = (torch.compile(f) for f in (inputs, forward, loss_of))
    sgd = torch.optim.SGD(task.net.parameters(), 0.03, momentum=0.9, weight_decay=task.weight_decay,
                          fused=on_gpu, foreach=not on_gpu)

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
        task.finish(features)
        return loss.detach()

    def wait():
        if on_gpu:
            torch.cuda.synchronize()

    def run(step, count, first=0):
        for i in range(first, first + count):
            task.load(i)
            loss = step()
        wait()
        return loss

    # Lets cuDNN choose and torch.compile compile, on the stream whose work is captured.
    stream = torch.cuda.Stream() if on_gpu else None
    if on_gpu:
        stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run(work, 6 if on_gpu else 1)
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()  # what the choices took does not count
    step = work
    if on_gpu and options.mode.endswith("graph"):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = work()

        def step():
            graph.replay()
            return captured

    run(step, 5 if on_gpu else 1)
    rounds, count = [], max(options.steps // 5, 1)
    for i in range(5 if on_gpu else 1):
        start = time.perf_counter()
        loss = run(step, count, i * count)
        rounds.append((time.perf_counter() - start) / count)
    seconds = statistics.median(rounds)
    print(json.dumps({
        "what": "PyTorch " + torch.__version__.split("+")[0], "mode": options.mode, "loss": loss.item(),
        "step_ms": seconds * 1e3, "views_per_s": task.count / seconds,
        "peak_mb": torch.cuda.max_memory_allocated() / 1e6 if on_gpu else 0,
        "reserved_mb": torch.cuda.max_memory_reserved() / 1e6 if on_gpu else 0,
    }))


main()

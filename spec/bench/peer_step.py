"""The peer's whole training step: `python3 peer_step.py npid|moco|mocov2|infomin|byol [--batch 128] [--steps 3] ...`
prints one JSON line.

To the peer's advantage its views are ready-made tensors: its time and memory include no loader and no augmentation,
while ours include both. The first step is warm-up.
"""
import argparse
import copy
import json
import os
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

from peer_model import InfoMin, MemoryBank, NormLinear, Queue, ResNet18, TwoHeads, cld_loss, ema, peak_mb


def memory_format(options):
    return torch.channels_last if options.channels_last else torch.contiguous_format


def encoder(options):
    return ResNet18(width=options.width).to(memory_format=memory_format(options))


def npid_step(options):
    net = encoder(options)
    bank = MemoryBank(options.bank, 128)
    sgd = torch.optim.SGD(net.parameters(), 0.03, momentum=0.9, weight_decay=7e-4)

    def step(views, index):
        (f1, g1), (f2, g2) = net(views[0]), net(views[1])
        loss = (bank.loss(f1, index) + bank.loss(f2, index)) / 2 + cld_loss(g1, g2, options.clusters, 0.2)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        bank.update(f2, index)
        bank.update(f1, index)
        return loss.item()

    return 2, step


def moco_step(options):
    net = encoder(options)
    momentum_net = copy.deepcopy(net)
    queue = Queue(options.queue, 128)
    sgd = torch.optim.SGD(net.parameters(), 0.03, momentum=0.9, weight_decay=7e-4)

    def step(views, index):
        (q1, g1), (q2, g2) = net(views[0]), net(views[1])
        with torch.no_grad():
            key, _ = momentum_net(views[2])
        instance = (queue.loss(q1, key) + queue.loss(q2, key)) / 2
        loss = instance + 0.25 * cld_loss(g1, g2, options.clusters, 0.2)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        queue.enqueue(key)
        ema(momentum_net, net, 0.999)
        return loss.item()

    return 3, step


def mocov2_step(options):
    """The published step on one GPU's 64 images: no shuffle among GPUs, and each row of the batch a group of its own."""
    import torchvision

    net = torchvision.models.resnet50().to(memory_format=memory_format(options))
    net.fc = TwoHeads(2048, 128)
    momentum_net = copy.deepcopy(net)
    queue = Queue(options.queue, 128, temperature=0.2)
    sgd = torch.optim.SGD(net.parameters(), 0.03, momentum=0.9, weight_decay=1e-4)

    def step(views, index):
        (q1, g1), (q2, g2) = net(views[0]), net(views[1])
        ema(momentum_net, net, 0.999)
        with torch.no_grad():
            key, _ = momentum_net(views[2])
        instance = (queue.loss(q1, key) + queue.loss(q2, key)) / 2
        loss = instance + 0.25 * cld_loss(g1, g2, 120, 0.4)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        queue.enqueue(key)
        return loss.item()

    return 3, step


def infomin_step(options):
    """The published step on one GPU's images, the keys enqueued once."""
    import torchvision

    trunk = torchvision.models.resnet50()
    trunk.fc = torch.nn.Identity()
    net = InfoMin(trunk, 2048, 128).to(memory_format=memory_format(options))
    momentum_net = copy.deepcopy(net)
    queue = Queue(options.queue, 128, temperature=0.15)
    sgd = torch.optim.SGD(net.parameters(), 0.03, momentum=0.9, weight_decay=1e-4)
    side = int(options.size * 64 / 224 + 0.5)
    patches = torch.randn(9 * options.batch, 3, side, side).contiguous(memory_format=memory_format(options))

    def step(views, index):
        with torch.no_grad():
            key, _ = momentum_net(views[2])
        (q1, g1), (q2, g2), jigsaw = net(views[0]), net(views[1]), net.jigsaw(patches)
        instance = 0.5 * (queue.loss(q1, key) + queue.loss(q2, key)) / 2 + 0.5 * queue.loss(jigsaw, key)
        loss = instance + 0.25 * cld_loss(g1, g2, 120, 0.8)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        queue.enqueue(key)
        ema(momentum_net, net, 0.999)
        return loss.item()

    return 3, step


def projector(features):
    return nn.Sequential(nn.Linear(features, 4096, bias=False), nn.BatchNorm1d(4096), nn.ReLU(), nn.Linear(4096, 256))


def byol_step(options):
    """BYOL with ResNet-50 and the published widths, and CLD's group branch on the online network; SGD."""
    import torchvision

    net = torchvision.models.resnet50().to(memory_format=memory_format(options))
    net.fc = nn.Identity()
    online = nn.ModuleList([net, projector(2048)])
    target, predictor = copy.deepcopy(online), projector(256)
    group = nn.Sequential(nn.Linear(2048, 2048), nn.ReLU(), NormLinear(2048, 128))
    trained = [*online.parameters(), *predictor.parameters(), *group.parameters()]
    sgd = torch.optim.SGD(trained, 0.03, momentum=0.9, weight_decay=7e-4)

    def step(views, index):
        features = [online[0](view) for view in views]
        p1, p2 = (predictor(online[1](x)) for x in features)
        g1, g2 = (F.normalize(group(x)) for x in features)
        with torch.no_grad():
            t1, t2 = (target[1](target[0](view)) for view in views)
        distance = (1 - F.cosine_similarity(p1, t2)) + (1 - F.cosine_similarity(p2, t1))
        loss = 2 * distance.mean() + cld_loss(g1, g2, 120, 0.4)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        ema(target, online, 0.99)
        return loss.item()

    return 2, step


STEPS = {"npid": npid_step, "moco": moco_step, "mocov2": mocov2_step, "infomin": infomin_step, "byol": byol_step}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("method", choices=list(STEPS))
    defaults = {"batch": 128, "size": 32, "steps": 3, "width": 64, "clusters": 128, "bank": 50000, "queue": 4096,
                "threads": len(os.sched_getaffinity(0))}
    for name, default in defaults.items():
        parser.add_argument("--" + name, type=int, default=default)
    parser.add_argument("--channels-last", action="store_true", help="memory format; the published code has the default")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    import_mb = peak_mb()
    torch.manual_seed(1)
    views, step = STEPS[options.method](options)
    shape = options.batch, 3, options.size, options.size
    images = [torch.randn(shape).contiguous(memory_format=memory_format(options)) for _ in range(views)]
    seconds = []
    for _ in range(1 + options.steps):
        index = torch.randperm(options.bank)[: options.batch]
        start = time.perf_counter()
        loss = step(images, index)
        seconds.append(time.perf_counter() - start)
    step_s = statistics.median(seconds[1:])
    print(json.dumps({
        "what": "PyTorch " + torch.__version__.split("+")[0], "threads": torch.get_num_threads(), "loss": loss,
        "step_s": step_s, "views_per_s": views * options.batch / step_s, "peak_mb": peak_mb(),
        "import_mb": import_mb,
    }))


main()

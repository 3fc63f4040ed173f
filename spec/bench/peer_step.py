"""The peer's whole training step: `python3 peer_step.py npid|moco|mocov2|infomin|byol [--batch 128] [--steps 3] ...` prints
one JSON line.

To the peer's advantage its views are ready-made tensors: no loader and no augmentation is in its time or its memory,
while ours has both. The first step is warm-up.
"""
import argparse
import copy
import json
import os
import statistics
import time

import torch

from peer_model import (InfoMinHeads, MemoryBank, NormLinear, Normalize, Queue, ResNet18, TwoHeads, cld_loss, ema, peak_mb,
                        projector)


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
    """InfoMin + CLD on one GPU's images: three views and nine patches, both calls on the old queue, one enqueue."""
    import torchvision

    net = torchvision.models.resnet50().to(memory_format=memory_format(options))
    net.fc = torch.nn.Identity()
    heads = InfoMinHeads(2048, 128)
    momentum_net, momentum_heads = copy.deepcopy(net), copy.deepcopy(heads)
    queue = Queue(options.queue, 128, temperature=0.15)
    sgd = torch.optim.SGD([*net.parameters(), *heads.parameters()], 0.03, momentum=0.9, weight_decay=1e-4)

    def step(views, index):
        with torch.no_grad():
            key, _ = momentum_heads(momentum_net(views[2]))
        (q1, g1), (q2, g2) = heads(net(views[0])), heads(net(views[1]))
        jigsaw = heads.of_patches(net(views[3]))
        instance = (queue.loss(q1, key) + queue.loss(q2, key)) / 4 + queue.loss(jigsaw, key) / 2
        loss = instance + 0.25 * cld_loss(g1, g2, 120, 0.8)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        queue.enqueue(key)
        ema(momentum_net, net, 0.999)
        ema(momentum_heads, heads, 0.999)
        return loss.item()

    return 3, step


def byol_step(options):
    """BYOL + CLD with SGD, whose step is the cheapest."""
    import torchvision

    F = torch.nn.functional
    net = torchvision.models.resnet50().to(memory_format=memory_format(options))
    net.fc = torch.nn.Identity()
    project, predict = projector(2048, 4096, 256), projector(256, 4096, 256)
    group = torch.nn.Sequential(torch.nn.Linear(2048, 2048), torch.nn.ReLU(), NormLinear(2048, 128), Normalize())
    target, target_project = copy.deepcopy(net), copy.deepcopy(project)
    trained = torch.nn.ModuleList([net, project, predict, group])
    sgd = torch.optim.SGD(trained.parameters(), 0.03, momentum=0.9, weight_decay=1e-4)

    def step(views, index):
        f1, f2 = net(views[0]), net(views[1])
        p1, p2 = predict(project(f1)), predict(project(f2))
        with torch.no_grad():
            t1, t2 = target_project(target(views[0])), target_project(target(views[1]))
        loss = 2 * (2 - F.cosine_similarity(p1, t2).mean() - F.cosine_similarity(p2, t1).mean())
        loss = loss + cld_loss(group(f1), group(f2), 120, 0.4)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        ema(target, net, 0.99)
        ema(target_project, project, 0.99)
        return loss.item()

    return 2, step


STEPS = {"npid": npid_step, "moco": moco_step, "mocov2": mocov2_step, "infomin": infomin_step, "byol": byol_step}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("method", choices=list(STEPS))
    defaults = {"batch": 128, "size": 32, "steps": 3, "width": 64, "clusters": 128, "bank": 50000, "queue": 4096, "patch": 0,
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
    if options.patch:  # nine jigsaw patches of each image
        images.append(torch.randn(9 * options.batch, 3, options.patch, options.patch)
                      .contiguous(memory_format=memory_format(options)))
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

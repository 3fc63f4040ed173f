"""The peer's training of an encoder alone: `python3 peer_encoder.py --arch resnet50 --size 224 --batch 32` prints one
JSON line. torchvision's network with the two heads of encoder.lua; the images are one ready-made tensor. The first step
is warm-up.
"""
import argparse
import json
import os
import statistics
import time

import torch
import torchvision
from torch import nn

from peer_model import Normalize, peak_mb


def encoder(options):
    net = torchvision.models.get_model(options.arch)
    features = net.fc.in_features
    net.fc = nn.ModuleList([nn.Sequential(nn.Linear(features, 128), Normalize()) for _ in range(2)])
    net.fc.forward = lambda x: [head(x) for head in net.fc]
    return net


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--arch", default="resnet50")
    threads = int(os.environ.get("OMP_NUM_THREADS") or 0) or len(os.sched_getaffinity(0))
    defaults = {"size": 224, "batch": 32, "steps": 3, "threads": threads}
    for name, default in defaults.items():
        parser.add_argument("--" + name, type=int, default=default)
    parser.add_argument("--channels-last", action="store_true", help="memory format")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    import_mb = peak_mb()
    torch.manual_seed(1)
    memory_format = torch.channels_last if options.channels_last else torch.contiguous_format
    net = encoder(options).to(memory_format=memory_format)
    sgd = torch.optim.SGD(net.parameters(), 0.03, momentum=0.9, weight_decay=1e-4)
    images = torch.randn(options.batch, 3, options.size, options.size).contiguous(memory_format=memory_format)
    targets = [torch.randn(options.batch, 128) for _ in range(2)]
    seconds, processor = [], []
    for _ in range(1 + options.steps):
        start, busy = time.perf_counter(), time.process_time()
        loss = sum((features * target).mean() for features, target in zip(net(images), targets))
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        loss = loss.item()
        seconds.append(time.perf_counter() - start)
        processor.append(time.process_time() - busy)
    step_s = statistics.median(seconds[1:])
    print(json.dumps({
        "what": "PyTorch " + torch.__version__.split("+")[0], "threads": torch.get_num_threads(), "loss": loss,
        "step_s": step_s, "processor_s": statistics.median(processor[1:]), "images_per_s": options.batch / step_s,
        "peak_mb": peak_mb(), "import_mb": import_mb,
    }))


main()

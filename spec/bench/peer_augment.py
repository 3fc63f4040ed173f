"""The peer's base augmentation of CIFAR images, on one core: `python3 peer_augment.py [--views 4000]`, one JSON line.

torchvision transforms on PIL images, as the published code uses them, from the raw bytes to a normalized tensor.
"""
import argparse
import json
import time

import numpy
import torch
import torchvision
from PIL import Image
from torchvision import transforms

parser = argparse.ArgumentParser()
parser.add_argument("--views", type=int, default=4000)
options = parser.parse_args()

torch.set_num_threads(1)
augment = transforms.Compose([
    transforms.RandomResizedCrop(32, scale=(0.2, 1)),
    transforms.ColorJitter(0.4, 0.4, 0.4, 0.4),
    transforms.RandomGrayscale(0.2),
    transforms.RandomHorizontalFlip(),
    transforms.ToTensor(),
    transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
])
images = numpy.random.RandomState(1).randint(0, 256, (512, 32, 32, 3), dtype=numpy.uint8)
for i in range(100):
    augment(Image.fromarray(images[i]))
start = time.process_time()
for i in range(options.views):
    augment(Image.fromarray(images[i % len(images)]))
seconds = time.process_time() - start
print(json.dumps({"what": "torchvision " + torchvision.__version__.split("+")[0], "views_per_s": options.views / seconds}))

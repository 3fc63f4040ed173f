"""The peer's augmentation on one core. Prints one JSON line.

    python3 peer_augment.py [--what base|rand_augment] [--views 4000]

torchvision transforms on PIL images, as the published code uses them, from the raw bytes to a normalized tensor: the
base augmentation of CIFAR images, or RandAugment on 224 pixels with its strongest magnitude.
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
parser.add_argument("--what", choices=["base", "rand_augment"], default="base")
parser.add_argument("--views", type=int, default=4000)
options = parser.parse_args()

torch.set_num_threads(1)
if options.what == "base":
    side = 32
    augment = transforms.Compose([
        transforms.RandomResizedCrop(32, scale=(0.2, 1)),
        transforms.ColorJitter(0.4, 0.4, 0.4, 0.4),
        transforms.RandomGrayscale(0.2),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    ])
else:
    side = 224
    modes = transforms.InterpolationMode
    augment = transforms.Compose([
        transforms.RandomChoice([  # as RandAugment of InfoMin has it
            transforms.RandAugment(2, magnitude=30, num_magnitude_bins=31, fill=[124, 116, 104], interpolation=mode)
            for mode in (modes.BILINEAR, modes.BICUBIC)
        ]),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])
images = numpy.random.RandomState(1).randint(0, 256, (512 * 32 // side, side, side, 3), dtype=numpy.uint8)
for i in range(100):
    augment(Image.fromarray(images[i % len(images)]))
start = time.process_time()
for i in range(options.views):
    augment(Image.fromarray(images[i % len(images)]))
seconds = time.process_time() - start
print(json.dumps({"what": "torchvision " + torchvision.__version__.split("+")[0], "views_per_s": options.views / seconds}))

"""The peer's side of image files, on one core. Prints one JSON line.

    python3 peer_images.py WHAT FOLDER [--images 200]

Time is processor time, which does not grow if other programs run on the machine.

jpeg, plus: file to two views at 224 pixels by torchvision's transforms on PIL images, as the published code does. jpeg-v2:
torchvision's own decoder and its v2 transforms on tensors. decode, decode-v2, png: from bytes in memory to pixels.
"""
import argparse
import glob
import io
import json
import random
import time

import torch
import torchvision
from PIL import Image, ImageFilter
from torchvision import transforms
from torchvision.transforms import v2

parser = argparse.ArgumentParser()
parser.add_argument("what")
parser.add_argument("folder")
parser.add_argument("--images", type=int, default=200)
options = parser.parse_args()

torch.set_num_threads(1)
mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class GaussianBlur:
    """MoCo v2's."""

    def __call__(self, image):
        return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(0.1, 2.0)))


crop_flip = transforms.Compose([
    transforms.RandomResizedCrop(224, scale=(0.2, 1)),
    transforms.RandomHorizontalFlip(),
    transforms.ToTensor(),
    transforms.Normalize(mean, std),
])
plus = transforms.Compose([
    transforms.RandomResizedCrop(224, scale=(0.2, 1)),
    transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
    transforms.RandomGrayscale(0.2),
    transforms.RandomApply([GaussianBlur()], p=0.5),
    transforms.RandomHorizontalFlip(),
    transforms.ToTensor(),
    transforms.Normalize(mean, std),
])
crop_flip_v2 = v2.Compose([
    v2.RandomResizedCrop(224, scale=(0.2, 1), antialias=True),
    v2.RandomHorizontalFlip(),
    v2.ToDtype(torch.float32, scale=True),
    v2.Normalize(mean, std),
])


def read(path):
    with open(path, "rb") as file:
        return file.read()


def pil(source):
    return Image.open(source).convert("RGB")


def two(view, image):
    return view(image), view(image)


def tensor_of(path):
    return torchvision.io.decode_image(torchvision.io.read_file(path), torchvision.io.ImageReadMode.RGB)


ways = {  # the files, what is made of each beforehand, what is measured
    "jpeg": ("jpeg", str, lambda path: two(crop_flip, pil(path))),
    "plus": ("jpeg", str, lambda path: two(plus, pil(path))),
    "jpeg-v2": ("jpeg", str, lambda path: two(crop_flip_v2, tensor_of(path))),
    "decode": ("jpeg", read, lambda data: pil(io.BytesIO(data))),
    "decode-v2": ("jpeg", torchvision.io.read_file,
                  lambda data: torchvision.io.decode_image(data, torchvision.io.ImageReadMode.RGB)),
    "png": ("png", read, lambda data: pil(io.BytesIO(data))),
}
folder, prepare, make = ways[options.what]
files = [prepare(path) for path in sorted(glob.glob(f"{options.folder}/{folder}/*"))]
for file in files[:20]:
    make(file)
start = time.process_time()
for i in range(options.images):
    make(files[i % len(files)])
seconds = time.process_time() - start
print(json.dumps({"what": "torchvision " + torchvision.__version__.split("+")[0], "images_per_s": options.images / seconds}))

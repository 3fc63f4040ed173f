"""The original's way to make views: Pillow and torchvision in `--workers` processes, then one f32 step in PyTorch.
Prints one JSON line: views per second of the whole, after the batches that the workers had made in advance are used up.
"""
import argparse
import json
import os
import sys
import time

import torch
from torchvision import transforms as T
from torchvision.transforms.functional import to_pil_image

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench"))
from peer_model import MemoryBank, ResNet18, cld_loss  # noqa: E402

VIEW = T.Compose([
    T.RandomResizedCrop(32, scale=(0.2, 1.0)), T.ColorJitter(0.4, 0.4, 0.4, 0.4), T.RandomGrayscale(0.2),
    T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
])


class TwoViews(torch.utils.data.Dataset):
    def __init__(self, count, rows):
        self.images = torch.randint(0, 256, (512, 3, 32, 32), dtype=torch.uint8)
        self.count, self.rows = count, rows

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        image = to_pil_image(self.images[i % 512])
        return VIEW(image), VIEW(image), i % self.rows


def main():
    parser = argparse.ArgumentParser()
    for name, default in {"batch": 256, "steps": 40, "width": 64, "bank": 50000, "workers": 4}.items():
        parser.add_argument("--" + name, type=int, default=default)
    parser.add_argument("--device", default="cuda", help="cpu only serves to try the script")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.backends.cudnn.benchmark = True
    net, bank = ResNet18(width=options.width).to(device), MemoryBank(options.bank, 128)
    bank.memory = bank.memory.to(device)
    sgd = torch.optim.SGD(net.parameters(), 0.03, momentum=0.9, weight_decay=7e-4)
    ahead = 2 * options.workers + 5  # as many batches as may wait in the workers' queues, and a warm-up
    count = max(options.bank, options.batch * (ahead + options.steps))
    loader = torch.utils.data.DataLoader(TwoViews(count, options.bank), options.batch, shuffle=True, drop_last=True,
                                         num_workers=options.workers, pin_memory=device.type == "cuda")
    steps = 0
    for x1, x2, index in loader:
        index = index.to(device, non_blocking=True)
        (f1, g1), (f2, g2) = (net(x.to(device, non_blocking=True)) for x in (x1, x2))
        loss = (bank.loss(f1, index) + bank.loss(f2, index)) / 2 + cld_loss(g1, g2, 128, 0.2)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        bank.update(f2.detach(), index)
        bank.update(f1.detach(), index)
        loss.item()  # as the original prints its meters
        steps += 1
        if steps == ahead:
            start = time.perf_counter()
        if steps == ahead + options.steps:
            break
    seconds = (time.perf_counter() - start) / options.steps
    print(json.dumps({"views_per_s": 2 * options.batch / seconds, "step_ms": seconds * 1e3}))


main()

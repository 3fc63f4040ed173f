"""The encoder and the losses of spec/bench's peer in plain PyTorch, as the published code has them.

Parameter names are the published checkpoints' names, so that spec/fixtures/make_model.py can use the same network.
Works with PyTorch 1.13 and with today's.
"""
import torch
import torch.nn.functional as F
from torch import nn


class Normalize(nn.Module):
    def forward(self, x):
        return F.normalize(x, dim=1)


class NormLinear(nn.Module):
    """Cosines between the rows of x and the columns of the weight (in x out), without bias."""

    def __init__(self, features, outputs):
        super().__init__()
        self.weight = nn.Parameter(F.normalize(torch.empty(features, outputs).uniform_(-1, 1), dim=0))

    def forward(self, x):
        return F.normalize(x, dim=1) @ F.normalize(self.weight, dim=0)


class BasicBlock(nn.Module):
    def __init__(self, features, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(features, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or features != width:
            self.shortcut = nn.Sequential(nn.Conv2d(features, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class ResNet18(nn.Module):
    """Images (N, 3, H, W) -> instance and group features, (N, low_dim) each, rows of unit length.

    The stem is CIFAR's, or torchvision's ("imagenet").
    """

    def __init__(self, low_dim=128, width=64, norm_linear=False, stem="cifar"):
        super().__init__()
        large = stem == "imagenet"
        head = NormLinear if norm_linear else nn.Linear

        def stage(features, outputs, stride):
            return nn.Sequential(BasicBlock(features, outputs, stride), BasicBlock(outputs, outputs, 1))

        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False) if large else nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        self.layer1 = stage(width, width, 1)
        self.layer2 = stage(width, 2 * width, 2)
        self.layer3 = stage(2 * width, 4 * width, 2)
        self.layer4 = stage(4 * width, 8 * width, 2)
        self.linear = head(8 * width, low_dim)
        self.groupDis = nn.Sequential(head(8 * width, low_dim), Normalize())

    def forward(self, x):
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = F.avg_pool2d(x, x.shape[2:]).flatten(1)
        return F.normalize(self.linear(x), dim=1), self.groupDis(x)


class TwoHeads(nn.Module):
    """MoCo v2 + CLD's: a hidden layer, and on it the instance and the group branch, rows of unit length."""

    def __init__(self, features, low_dim):
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(features, features), nn.ReLU())
        self.instance, self.group = NormLinear(features, low_dim), NormLinear(features, low_dim)

    def forward(self, x):
        x = self.hidden(x)
        return F.normalize(self.instance(x), dim=1), F.normalize(self.group(x), dim=1)


class InfoMin(nn.Module):
    """InfoMin + CLD's network on an encoder whose features have no head: as TwoHeads, and a head for jigsaw patches."""

    def __init__(self, encoder, features, low_dim):
        super().__init__()
        self.encoder, self.heads = encoder, TwoHeads(features, low_dim)
        hidden = nn.Linear(features, features)
        self.patch = nn.Sequential(hidden, nn.ReLU(), NormLinear(features, low_dim))
        self.image = NormLinear(9 * low_dim, low_dim)

    def forward(self, x):
        return self.heads(self.encoder(x))

    def jigsaw(self, patches):
        x = self.patch(self.encoder(patches))
        x = x.reshape(len(patches) // 9, 9, -1)
        order = torch.rand(x.shape[:2]).argsort(1)
        x = x.gather(1, order[:, :, None].expand_as(x))
        return F.normalize(self.image(x.flatten(1)), dim=1)


def kmeans(x, k, iterations):
    """Lloyd's algorithm from the first k rows; the centroids carry the gradient of the last means."""
    points = x.detach()
    centroids = points[:k]
    for _ in range(iterations):
        labels = (centroids.square().sum(1) - 2 * points @ centroids.T).argmin(1)
        members = F.one_hot(labels, k).to(x.dtype)
        counts = members.sum(0).clamp(min=1)[:, None]
        centroids = members.T @ points / counts
    return labels, members.T @ x / counts


def cld_loss(g1, g2, clusters, temperature, iterations=5):
    labels1, centroids1 = kmeans(g1, clusters, iterations)
    labels2, centroids2 = kmeans(g2, clusters, iterations)
    logits = g1 @ centroids2.T / temperature
    return (F.cross_entropy(logits, labels2) + F.cross_entropy(g2 @ centroids1.T / temperature, labels1)) / 2


class MemoryBank:
    """NPID with the full softmax: cross entropy of f . bank^T / T against the sample's own index."""

    def __init__(self, size, dim, temperature=0.1, momentum=0.5):
        bound = (dim / 3) ** -0.5
        self.memory = torch.empty(size, dim).uniform_(-bound, bound)
        self.temperature, self.momentum = temperature, momentum

    def loss(self, features, index):
        return F.cross_entropy(features @ self.memory.T / self.temperature, index)

    @torch.no_grad()
    def update(self, features, index):
        rows = self.momentum * self.memory[index] + (1 - self.momentum) * features
        self.memory[index] = F.normalize(rows, dim=1)


class Queue:
    """MoCo: cross entropy of [q . k, q . queue^T] / T against class 0; a ring of the latest keys."""

    def __init__(self, size, dim, temperature=0.07):
        bound = (dim / 3) ** -0.5
        self.memory = torch.empty(size, dim).uniform_(-bound, bound)
        self.temperature, self.pointer = temperature, 0

    def loss(self, query, key):
        logits = torch.cat([(query * key).sum(1, keepdim=True), query @ self.memory.T], 1) / self.temperature
        return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long))

    @torch.no_grad()
    def enqueue(self, keys):
        size = len(self.memory)
        self.memory[(self.pointer + torch.arange(len(keys))) % size] = keys
        self.pointer = (self.pointer + len(keys)) % size


@torch.no_grad()
def ema(target, source, decay):
    for t, s in zip(target.parameters(), source.parameters()):
        t.mul_(decay).add_(s, alpha=1 - decay)


def peak_mb():
    """The highest resident memory of this process, in MB (what getrusage calls ru_maxrss)."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))

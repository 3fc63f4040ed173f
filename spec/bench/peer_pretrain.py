"""LightlyTrain's one command, for spec/bench/pretrain.lua; and the time and memory that any command takes.

    peer_pretrain.py measure FILE COMMAND...      writes {seconds, processor_seconds, mb} as JSON
    peer_pretrain.py train --data D --out O ...   trains, and writes O/exported.pt with torchvision's names
"""
import argparse
import json
import resource
import subprocess
import sys
import time


def measure(path, command):
    began = time.monotonic()
    code = subprocess.call(command)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(path, "w") as file:
        json.dump({"seconds": time.monotonic() - began, "processor_seconds": used.ru_utime + used.ru_stime,
                   "mb": used.ru_maxrss / 1024}, file)
    return code


def train(arguments):
    parser = argparse.ArgumentParser()
    for name, kind in (("data", str), ("out", str), ("method", str), ("size", int), ("epochs", int), ("batch", int)):
        parser.add_argument("--" + name, type=kind)
    args = parser.parse_args(arguments)

    import lightly_train
    begin = getattr(lightly_train, "pretrain", None) or lightly_train.train
    more = {"method": args.method} if args.method else {}
    begin(out=args.out, data=args.data, model="torchvision/resnet18", epochs=args.epochs, batch_size=args.batch,
          accelerator="cpu", num_workers=1, transform_args={"image_size": (args.size, args.size)}, **more)
    lightly_train.export(out=args.out + "/exported.pt", checkpoint=args.out + "/checkpoints/last.ckpt", part="model",
                         format="torch_state_dict")


if __name__ == "__main__":
    if sys.argv[1] == "measure":
        sys.exit(measure(sys.argv[2], sys.argv[3:]))
    train(sys.argv[2:])

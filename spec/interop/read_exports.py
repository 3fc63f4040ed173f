"""Reads our files with other libraries: `python3 read_exports.py MANIFEST` prints a line for each claim, "ok CLAIM" or
"FAILED CLAIM: why", and "skipped LIBRARY" for one that is not installed. check.lua writes the files and the manifest:

    [{"name", "tensors", "statements": Python that makes torchvision's model m, "images", "features", "instance": .npy files,
      "torchvision", "pth", "detectron2", "safetensors", "npy", "npz", "onnx features", "onnx instance": what was exported}, ...]

A network of one's own has only "name", "images", "instance" and "onnx instance".
"""
import importlib
import json
import pickle
import pathlib
import sys
import zipfile

try:
    import numpy
except ImportError:
    print("skipped numpy, without which nothing can be compared")
    sys.exit()

TOLERANCE = 1e-4  # of the largest value


def module(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        print("skipped", name)
        return None


torch, torchvision = module("torch"), module("torchvision")
onnx, onnxruntime = module("onnx"), module("onnxruntime")
safetensors = module("safetensors") and module("safetensors.torch" if torch else "safetensors.numpy")


def claim(text, holds):
    try:
        why = holds()
        print("ok" if why is None else "FAILED", text + ("" if why is None else ": " + str(why)))
    except Exception as problem:  # each library has its own
        print("FAILED", text + ": " + repr(problem).replace("\n", " ")[:400])


def apart(ours, theirs):
    if ours.shape != theirs.shape:
        return f"shapes {ours.shape} and {theirs.shape}"
    error = abs(ours - theirs).max() / abs(ours).max()
    return None if error <= TOLERANCE else f"apart by {error:.3g} of the largest value"


def differing(ours, theirs):
    """Two dictionaries of arrays, compared bit for bit."""
    if set(ours) != set(theirs):
        return f"names differ: {sorted(set(ours) ^ set(theirs))[:4]}"
    for name, array in ours.items():
        other = theirs[name]
        if array.dtype != other.dtype or array.shape != other.shape or array.tobytes() != other.tobytes():
            return f"{name} differs"
    return None


def arrays(state):
    return {name: tensor.numpy() for name, tensor in state.items()}


def check_torch(net, plain):
    for kind in ("torchvision", "pth"):
        read = torch.load(net[kind], weights_only=True)
        mapped = torch.load(net[kind], weights_only=True, mmap=True)
        claim(f"{net['name']}: {kind} holds the same if it is mapped", lambda: differing(arrays(read), arrays(mapped)))
    claim(f"{net['name']}: torch.load and numpy read the same weights",
          lambda: differing(plain, arrays(torch.load(net["torchvision"], weights_only=True))))
    claim(f"{net['name']}: the .pth has all tensors",
          lambda: None if len(torch.load(net["pth"], weights_only=True)) == net["tensors"] else "their number differs")
    claim(f"{net['name']}: the zip archive is undamaged", lambda: zipfile.ZipFile(net["pth"]).testzip())


def torchvision_features(net):
    scope = {"torch": torch, "torchvision": torchvision}
    exec(net["statements"], scope)
    scope["m"].load_state_dict(torch.load(net["torchvision"], weights_only=True))
    with torch.no_grad():
        return scope["m"].eval()(torch.from_numpy(numpy.load(net["images"]))).numpy()


def onnx_result(net, layer):
    session = onnxruntime.InferenceSession(net["onnx " + layer])
    images = numpy.load(net["images"])
    one = session.run(["features"], {"images": images[:1]})[0]
    all_of_them = session.run(["features"], {"images": images})[0]
    return apart(one, all_of_them[:1]) or apart(numpy.load(net[layer]), all_of_them)


def moco_name(name):
    """What MoCo's convert-pretrain-to-detectron2.py makes of a torchvision name."""
    name = name if "layer" in name else "stem." + name
    for i in (1, 2, 3, 4):
        name = name.replace(f"layer{i}", f"res{i + 1}")
    for i in (1, 2, 3):
        name = name.replace(f"bn{i}", f"conv{i}.norm")
    return name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")


def check_onnx(net):
    for layer in ("features", "instance"):
        if "onnx " + layer not in net:
            continue
        if onnx:
            claim(f"{net['name']}: onnx.checker accepts the {layer}",
                  lambda: onnx.checker.check_model(onnx.load(net["onnx " + layer]), full_check=True))
        if onnxruntime:
            claim(f"{net['name']}: onnxruntime computes the {layer}", lambda: onnx_result(net, layer))


def check(net):
    check_onnx(net)
    if "npy" not in net:  # a network of one's own
        return
    name = net["name"]
    plain = {p.name[:-4]: numpy.load(p) for p in pathlib.Path(net["npy"]).glob("*.npy")}
    with open(net["detectron2"], "rb") as file:
        model = pickle.load(file, encoding="latin1")
    claim(f"{name}: the file for detectron2 has its marks", lambda: None
          if (model["__author__"], model["matching_heuristics"]) == ("cldlua", True) else model.keys())
    claim(f"{name}: detectron2's tensors are those of MoCo's converter",
          lambda: differing({moco_name(key): array for key, array in plain.items()}, model["model"]))
    claim(f"{name}: detectron2 may write into the arrays, as torch.from_numpy asks",
          lambda: None if all(array.flags.writeable for array in model["model"].values()) else "they are read-only")
    with numpy.load(net["npz"]) as archive:
        claim(f"{name}: npz", lambda: differing(plain, dict(archive)))
    if torch:
        check_torch(net, plain)
    if torchvision:
        claim(f"{name}: torchvision's model computes the features",
              lambda: apart(numpy.load(net["features"]), torchvision_features(net)))
    if safetensors:
        read = safetensors.load_file(net["safetensors"])
        claim(f"{name}: safetensors", lambda: differing(plain, arrays(read) if torch else read))


for entry in json.loads(pathlib.Path(sys.argv[1]).read_text()):
    check(entry)

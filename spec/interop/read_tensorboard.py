"""Prints what TensorBoard's own readers see in a folder, as JSON, for `make test-interop-tensorboard`.

    python read_tensorboard.py FOLDER

  scalars     {tag: [[step, value], ...]} of the reader behind the command line's --inspect and scripts (event_accumulator)
  steps       {tag: [step, ...]} of the one behind the web page (plugin_event_accumulator), which sees tensors alone
  images      {tag: [[step, width, height], ...]}
  projector   {embedding: {rows, columns, metadata (lines), sprite (bytes)}} as the projector's own server answers
"""
import json, logging, math, sys

from tensorboard.backend.event_processing import data_provider, event_accumulator, plugin_event_accumulator
from tensorboard.backend.event_processing import plugin_event_multiplexer
from tensorboard.plugins import base_plugin
from tensorboard.plugins.projector import projector_plugin
from werkzeug.test import Client
from werkzeug.wrappers import Response

logging.disable(logging.WARNING)  # it warns that it drops what came after a restart, which is expected here


def finite(x):
    return x if math.isfinite(x) else repr(x)


def projector(folder):
    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(folder)
    multiplexer.Reload()
    plugin = projector_plugin.ProjectorPlugin(base_plugin.TBContext(
        logdir=folder, multiplexer=multiplexer, data_provider=data_provider.MultiplexerDataProvider(multiplexer, folder)))
    plugin._update_configs()
    apps = plugin.get_plugin_apps()

    def get(path, name=None):
        reply = Client(apps[path], Response).get(path + "?run=." + ("&name=" + name if name else ""))
        assert reply.status_code == 200, (path, reply.data)
        return reply.data

    found = {}
    for one in json.loads(get("/info"))["embeddings"]:
        name = one["tensorName"]
        rows, columns = one["tensorShape"]
        assert len(get("/tensor", name)) == 4 * rows * columns
        found[name] = dict(rows=rows, columns=columns, metadata=get("/metadata", name).decode().splitlines(),
                           sprite=len(get("/sprite_image", name)) if "sprite" in one else 0)
    return found


def main(folder):
    old = event_accumulator.EventAccumulator(folder, size_guidance=dict(scalars=0, images=0))
    old.Reload()
    new = plugin_event_accumulator.EventAccumulator(folder, size_guidance=dict(tensors=0))
    new.Reload()
    tags = old.Tags()
    print(json.dumps(dict(
        scalars={t: [[p.step, finite(p.value)] for p in old.Scalars(t)] for t in tags["scalars"]},
        steps={t: [p.step for p in new.Tensors(t)] for t in new.Tags()["tensors"]},
        images={t: [[p.step, p.width, p.height] for p in old.Images(t)] for t in tags["images"]},
        projector=projector(folder),
    )))


main(sys.argv[1])

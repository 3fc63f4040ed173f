--- Writes the network of a checkpoint of any recipe, or of published weights, as a file for PyTorch, torchvision,
-- detectron2, NumPy or ONNX, and prints the command that reads it.
--
--   cldlua recipes/export.lua --checkpoint runs/NAME --out encoder.pth
--   cldlua recipes/export.lua --checkpoint runs/NAME --out encoder.onnx --layer instance
--   cldlua recipes/export.lua --checkpoint runs/NAME --out encoder.pkl --encoder key
local cld = require "cld"
local export = require "cld.export"
local say = require "cld.say"
local subject = require "cld.eval.subject"
local usage = require "cld.export.usage"

local opt = cld.options {
  about = "the network of a checkpoint as a file that others read",
  { "checkpoint", "checkpoint.safetensors", "of any recipe, or its run's folder; or published weights: .pth, .pth.tar,"
    .. " .t7, .safetensors", nonempty = true },
  { "out",     "encoder.pth", "the file to write, or of npy a folder of NAME.npy; not given: encoder, with the ending"
    .. " of --format", nonempty = true },
  { "format",  "auto",        "torchvision (the trunk by its names, a .pth), pth (the whole network by ours),"
    .. " detectron2 (a .pkl), onnx (images to features), npy, npz, safetensors; auto: the one of --out's ending (.pth,"
    .. " .pt, .pkl, .onnx, .npy, .npz, .safetensors)", choices = { "auto", table.unpack(export.formats) } },
  { "encoder", "query",       "which network of the checkpoint: the one that was trained, or the key encoder (MoCo) or"
    .. " target (BYOL) that follows it", choices = { "query", "key" } },
  { "layer",   "features",    "of onnx: features (the pooled ones), or instance (the first output)",
    choices = { "features", "instance" } },
  { "names",   "torchvision", "of safetensors, npy and npz: torchvision (the trunk), or own (the whole network by"
    .. " ours)", choices = { "torchvision", "own" } },
  { "size",    0,             "of onnx: height and width of the images, in pixels; 0: what it was trained for", min = 0,
    max = 3584, integer = true },
  { "normalize", false,       "of onnx: the model normalizes its images itself and takes RGB from 0 to 1" },
  { "require", "",            "a Lua file that makes your own networks known (cld.models.define)" },
  { "force",   false,         "replace a file that is there" },
}
cld.dist.first_only()
local given = cld.options.details(opt).given
local out = (given.out or opt.format == "auto") and opt.out or "encoder." .. export.ending(opt.format)
local net, about = subject.load(opt, nil, opt.encoder)
local view = about.test_view
local settings = {
  format = opt.format == "auto" and export.format_of(out) or opt.format, layer = opt.layer,
  size = opt.size > 0 and opt.size or nil, view = view, force = opt.force,
  names = opt.names ~= "torchvision" and opt.names or nil, normalize = opt.normalize,
}
local count = cld.models.export(net, out, settings)
say(("%s: %d tensors, format %s; %s"):format(out, count, settings.format, usage.input_text(settings)))
local note = export.ending_note(out, settings.format)
if note then say(note) end
for _, line in ipairs(usage.of_export(net, out, settings)) do say(line) end

--- net:load_published(path): loads the trunk of a published checkpoint, or of a run's, into an existing network.
local caller = require "cld.caller"
local core = require "cld.core"
local modules = require "cld.nn.module"
local published = require "cld.models.published"
local say = require "cld.say"
local sorted_keys = require "cld.sorted_keys"
local states = require "cld.state"
local trunk = require "cld.models.trunk"
local user_error = require "cld.user_error"

local take = {}

-- What the file holds: {layout, epoch, state = {torchvision's name = tensor}, left_out = {what = how many}}.
local function read(path)
  local checkpoint = require "cld.run.checkpoint"
  local file = checkpoint.file(path)
  local value, facts = user_error.call(core.io.load, file)
  if checkpoint.is_ours(facts or {}) then
    local net, about = require "cld.models".load(file)
    local found, why = trunk.of(net)
    if not found then user_error.raise("%s: %s", path, why) end
    local state = {}
    for _, one in ipairs(found.tensors) do state[one.name] = one.tensor end
    local heads = #net:state_list() - #found.tensors
    return { layout = "cldlua", epoch = about.epoch, state = state, left_out = { heads = heads > 0 and heads or nil } }
  end
  local found, why = published.recognise(value)
  if not found then user_error.raise("%s: %s", path, why) end
  local state, rest = trunk.as_torchvision(found.state)
  for _, name in ipairs(rest) do
    local group = name:match "^[^.]*"
    found.left_out[group] = (found.left_out[group] or 0) + 1
  end
  return { layout = found.layout, epoch = found.epoch, state = state, left_out = found.left_out }
end

local function left_out_text(left_out)
  local words = {}
  for i, name in ipairs(sorted_keys(left_out)) do words[i] = ("%s (%d)"):format(name, left_out[name]) end
  return #words > 0 and "; left out: " .. table.concat(words, ", ") or "; nothing was left out"
end

-- Fills the network's tensors, or raises if the file lacks one (other than a counter of batches) or has another shape.
local function fill(path, found, own, given)
  local theirs = require "cld.models.architecture".read(given.state, "")
  local text = theirs and trunk.text {
    arch = theirs.arch, width = theirs.width, stem = theirs.stem or theirs.width, small = theirs.small,
  }
  if text and text ~= trunk.text(found) then
    user_error.raise("%s: it holds a %s; the network here is a %s", path, text, trunk.text(found))
  end
  local ok, problem = pcall(states.load, "load_published", own, given.state, {
    optional = function(name) return name:find "num_batches_tracked$" ~= nil end,
  })
  if not ok then user_error.raise("%s: %s", path, caller.without_place(problem)) end
end

--- module:load_published(path) -> {layout, epoch, taken = tensors, left_out = {what = how many}}: fills the network's
-- trunk (wherever it is in the network) from a published checkpoint (.pth, .pth.tar, .t7, .pkl, .safetensors) or a
-- run's, and prints a line about what was left out. Heads do not change.
--
--     -- needs a file
--     local net = cld.models.resnet50 { head = "mlp" }
--     net:load_published "moco_v2_800ep_pretrain.pth.tar"
function take.load_published(self, path)
  if not modules.is_module(self) then
    caller.raise("load_published: expected a module, got %s", caller.shown(self))
  elseif type(path) ~= "string" then
    caller.raise("load_published: expected a path, got %s", caller.shown(path))
  end
  local found, why = trunk.of(self)
  if not found then caller.raise("load_published: %s", why) end
  local given, own = read(path), {}
  for _, one in ipairs(found.tensors) do own[one.name] = one.tensor end
  fill(path, found, own, given)
  local taken = 0
  for name in pairs(given.state) do taken = taken + (own[name] and 1 or 0) end
  local epochs = given.epoch and (given.epoch == 1 and ", after 1 epoch" or (", after %d epochs"):format(given.epoch))
  say(("%s: layout %s, %s%s: %d tensors of the trunk taken%s"):format(path, given.layout, trunk.text(found),
    epochs or "", taken, left_out_text(given.left_out)))
  return { layout = given.layout, epoch = given.epoch, taken = taken, left_out = given.left_out }
end

modules.base.load_published = take.load_published

return take

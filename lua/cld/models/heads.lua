--- The heads of an encoder: they compute the branches' features from the pooled features. One entry per kind:
--
--   build(net, F, {dim, branches})               assigns the layers to the net, under the published names
--   forward(net, features (N, F), branches)      -> the features (N, dim) of each branch, not normalised
--
-- A head holds no reference to the net that it was built for, so that clones and moved nets run their own layers.
--
-- | kind | instance and group | instance alone | group alone |
-- |---|---|---|---|
-- | linear, norm_linear | fc, groupDis | fc | groupDis |
-- | mlp, norm_mlp | fc.0, relu; instDis, groupDis | fc.0, relu, fc.2 | fc.0, relu; groupDis |
--
-- mlp: the hidden layer fc.0 is F x F with bias (MoCo v2, Chen et al. 2020), and both branches use its output (CLD,
-- Wang et al. 2021). norm_ makes the last layers NormLinear; fc.0 is a Linear in both.
--
-- With settings.projector = {hidden =, dim =} the instance branch is `projector`, an nn.projector on the pooled
-- features (BYOL, SimCLR), and the group branch is the one of the column "group alone".
local caller = require "cld.caller"
local nn = require "cld.nn"
local sorted_keys = require "cld.sorted_keys"
local user_error = require "cld.user_error"

local heads = {}

local function wants(branches, wanted)
  for _, branch in ipairs(branches) do
    if branch == wanted then return true end
  end
  return false
end

-- The outputs of the layers {branch = layer} for x, in the order of the branches.
local function apply(branches, layers, x)
  local first, second = branches[1], branches[2]
  if not second then return layers[first](x) end
  return layers[first](x), layers[second](x)
end

local function linear(last)
  return {
    build = function(net, F, settings)
      if wants(settings.branches, "instance") then net.fc = last(F, settings.dim) end
      if wants(settings.branches, "group") then net.groupDis = last(F, settings.dim) end
    end,
    forward = function(net, features, branches)
      return apply(branches, { instance = net.fc, group = net.groupDis }, features)
    end,
  }
end

local function mlp(last)
  return {
    build = function(net, F, settings)
      net.fc = nn.sequential(nn.linear(F, F), nn.relu())
      if not wants(settings.branches, "group") then
        net.fc:append(last(F, settings.dim))
        return
      end
      if wants(settings.branches, "instance") then net.instDis = last(F, settings.dim) end
      net.groupDis = last(F, settings.dim)
    end,
    forward = function(net, features, branches)
      local hidden = net.fc(features)
      if not net.groupDis then return hidden end
      return apply(branches, { instance = net.instDis, group = net.groupDis }, hidden)
    end,
  }
end

local kinds = {
  linear = linear(nn.linear), norm_linear = linear(nn.norm_linear),
  mlp = mlp(nn.linear), norm_mlp = mlp(nn.norm_linear),
}

--- The kinds' names.
heads.names = sorted_keys(kinds)

local GROUP = { "group" }

--- build(net, F, {head, dim, branches, projector}): the layers of all branches.
function heads.build(net, F, settings)
  local branches = settings.branches
  if settings.projector then
    if wants(branches, "instance") then
      net.projector = nn.projector(F, settings.projector.hidden, settings.projector.dim)
    end
    if not wants(branches, "group") then return end
    branches = GROUP
  end
  kinds[settings.head].build(net, F, { dim = settings.dim, branches = branches })
end

--- forward(net, features (N, F)) -> the features of net.branches, by the head of the kind net.head.
function heads.forward(net, features)
  local kind, branches = kinds[net.head], net.branches
  if not net.projector then return kind.forward(net, features, branches) end
  if #branches == 1 then return net.projector(features) end
  local instance, group = net.projector(features), kind.forward(net, features, GROUP)
  if branches[1] == "group" then return group, instance end
  return instance, group
end

local function check_branches(name, branches)
  local expected = "branches must be { 'instance', 'group' } or one of them"
  if type(branches) ~= "table" or #branches < 1 or #branches > 2 then
    caller.raise("%s: %s, got %s", name, expected,
      type(branches) == "table" and ("a table of %d"):format(#branches) or caller.shown(branches))
  end
  for i, branch in ipairs(branches) do
    if branch ~= "instance" and branch ~= "group" then
      caller.raise("%s: %s, got %s", name, expected, caller.shown(branch))
    elseif branches[i - 1] == branch then
      caller.raise("%s: %s, got '%s' twice", name, expected, branch)
    end
  end
end

--- check_branches(name, branches, projector) raises unless they are branches, and the projector, if there is one, a
-- table of two widths.
function heads.check_branches(name, branches, projector)
  check_branches(name, branches)
  if projector == false then return end
  if type(projector) ~= "table" then
    caller.raise("%s: projector is %s; expected {hidden =, dim =} or false", name, caller.shown(projector))
  end
  caller.require_fields(name .. ": projector", projector, { "hidden", "dim" })
  for _, field in ipairs { "hidden", "dim" } do
    projector[field] = caller.integer(name .. ": projector", field, projector[field])
  end
end

--- check(name, settings) raises unless settings.head is a kind or false, and the branches and the projector are right.
function heads.check(name, settings)
  heads.check_branches(name, settings.branches, settings.projector)
  local head = settings.head
  if head == false and settings.projector then
    caller.raise("%s: a projector is the instance branch of a head, and head is false; expected %s", name,
      table.concat(heads.names, ", "))
  end
  if head == false or type(head) == "string" and kinds[head] then return end
  caller.raise("%s: head is %s; expected %s or false%s", name, caller.shown(head), table.concat(heads.names, ", "),
    type(head) == "string" and user_error.hint(head, heads.names) or "")
end

return heads

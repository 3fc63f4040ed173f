--- Running means over the images of the values given to run:track: a short batch counts by its share of a full one.
-- Sums and counts are tensors on the device of the values, so a training step does not wait for it, and a value is read
-- only when it is printed. Values that are not finite (from a skipped step) are left out. With several ranks, each sums
-- up its own part until the sums are combined on rank 0.
local core = require "cld.core"
local dist = require "cld.dist"
local sorted_keys = require "cld.sorted_keys"
local create, no_grad = core.tensor, core.autograd.no_grad

local Meters = {}
Meters.__index = Meters

local function new() return setmetatable({ sums = {}, counts = {} }, Meters) end

local function replace(list, name, value)
  local old = list[name]
  list[name] = old and old + value or value
  if old then
    old:close()
    value:close()
  end
end

local function scaled(value, factor)
  if not factor or factor == 1 then return value end
  local _ <close> = value
  return value * factor
end

--- values: {name = tensor of one element, or number}; share: the batch's size as a share of a full one, default 1.
function Meters:track(values, share)
  local _ <close> = no_grad()
  if not dist.alone then share = (share or 1) * core.dist.weight() end
  for name, value in pairs(values) do
    local x <close> = type(value) == "number" and create.tensor({ value }, "f64") or value:detach():double():reshape(1)
    local finite <close> = x:isfinite()
    local zero <close> = create.zeros_like(x)
    replace(self.sums, name, scaled(create.where(finite, x, zero), share))
    replace(self.counts, name, scaled(finite:double(), share))
  end
end

--- The size of a full batch changes here: the values tracked so far count `factor` times as much.
function Meters:scale(factor)
  for _, list in ipairs { self.sums, self.counts } do
    for name, value in pairs(list) do list[name] = scaled(value, factor) end
  end
end

--- Combines the ranks' sums on rank 0. Every rank must have tracked the same names.
function Meters:settle()
  if dist.alone then return end
  local names, list = sorted_keys(self.sums), {}
  if #names == 0 then return end
  for i, name in ipairs(names) do
    list[2 * i - 1], list[2 * i] = self.sums[name], self.counts[name]
  end
  local all = core.dist.all_reduce(create.cat(list, 1):to "cpu", "sum")
  if dist.rank > 0 then all = create.zeros_like(all) end
  for i, tensor in ipairs(list) do tensor:copy_(all[{ { i, i } }]) end
end

--- {name = mean so far} over all ranks, on rank 0; NaN if no value was finite, and NaN on the other ranks. Every rank
-- must call it.
function Meters:read()
  self:settle()
  local means = {}
  for name, sum in pairs(self.sums) do means[name] = sum:item() / self.counts[name]:item() end
  return means
end

function Meters:reset() self.sums, self.counts = {}, {} end

--- {"sum.<name>" = f64 (1), "count.<name>" = f64 (1)}
function Meters:state_dict()
  local state = {}
  for name, sum in pairs(self.sums) do
    state["sum." .. name], state["count." .. name] = sum, self.counts[name]
  end
  return state
end

function Meters:load_state_dict(state)
  local read = { sum = {}, count = {} }
  for key, tensor in pairs(state) do
    local kind, name = key:match "^(%a+)%.(.+)$"
    if not read[kind] or tensor.dtype ~= "f64" or tensor:numel() ~= 1 then
      error(("'%s' is neither a sum nor a count, one f64"):format(key), 0)
    end
    read[kind][name] = tensor
  end
  for name in pairs(read.sum) do
    if not read.count[name] then error(("'count.%s' is missing"):format(name), 0) end
  end
  for name in pairs(read.count) do
    if not read.sum[name] then error(("'sum.%s' is missing"):format(name), 0) end
  end
  self.sums, self.counts = read.sum, read.count
  if dist.rank > 0 then self:scale(0) end
end

return new

--- Keeps the plans of a GPU's convolutions (kernels/backend.h) the same on all ranks of a job. Each rank times and
-- chooses a plan when it meets a new shape, without waiting for the others. When all ranks meet, they exchange their
-- new choices. For each shape all then use the choice of the lowest rank that knows the shape: rank 0's, if it has met
-- that shape. A settled choice does not change. A captured step exchanges before its last call that is not captured
-- (graph.lua), a run after its first step, at each epoch's end and with each checkpoint (run.lua).
--
-- A plan is valid only for one kind of chip and one library: ranks with other chips settle theirs among themselves.
local core = require "cld.core"
local dist = require "cld.dist"
local json = require "cld.json"
local say = require "cld.say"

local plans = {}

local settled = {} -- {[kind] = {list of purposes, [purpose] = the plan as text}}: for the whole job
local seen = 0     -- how many of this rank's own plans have been handled
local told = {}    -- the messages so far: each is printed once

--- The purpose of a plan, as text: everything in it except the choice.
function plans.purpose(plan)
  local fields = {}
  for name, value in pairs(plan) do
    if name ~= "engine" and name ~= "knobs" then fields[name] = value end
  end
  return json.encode(fields)
end

--- The chip of a device such as "cuda:0", as one word.
function plans.chip(device) return (core.cuda.devices()[device:match "%d+$" + 1].name:lower():gsub("%W+", "-")) end

--- Whether the device's convolutions have plans.
function plans.has(device) return device and device ~= "cpu" and core.cuda.plan_library() ~= nil end

--- The chip and library for which plans are valid, as text.
function plans.kind(chip, library) return json.encode { chip, library } end

local function kind_of(device) return plans.kind(plans.chip(device), core.cuda.plan_library()) end

-- Settles the plan if its purpose has none yet. A plan of this rank's own kind is used from now on.
local function settle(kind, plan, own_kind)
  local of, purpose = settled[kind] or {}, plans.purpose(plan)
  settled[kind] = of
  if of[purpose] then return end
  if kind == own_kind then core.cuda.use_plan(plan) end
  of[#of + 1], of[purpose] = purpose, json.encode(plan)
end

local function settle_all(kind, list, own_kind)
  for _, plan in ipairs(list) do settle(kind, plan, own_kind) end
end

-- The plans in the list whose purpose is not settled.
local function unsettled(kind, list)
  local left, of = {}, settled[kind] or {}
  for _, plan in ipairs(list) do
    if not of[plans.purpose(plan)] then left[#left + 1] = plan end
  end
  return left
end

-- The number of this rank's plans that differ from the settled ones, because the settled ones cannot be used here.
local function count_others(kind)
  local count = 0
  for _, plan in ipairs(core.cuda.plans().plans) do
    local text = settled[kind][plans.purpose(plan)]
    if text and text ~= json.encode(plan) then count = count + 1 end
  end
  return count
end

local function say_once(rank, text)
  if told[rank .. text] then return end
  told[rank .. text] = true
  say(text)
end

-- Rank 0's message about another rank.
local function tell(rank, own_kind, other)
  if other.kind ~= own_kind then
    local chip, library = table.unpack(json.decode(other.kind))
    say_once(rank, ("rank %d chooses its convolutions itself: it is on %s with %s, rank 0 on %s with %s"):format(rank,
      chip, library, table.unpack(json.decode(own_kind))))
  elseif other.others > 0 then
    say_once(rank, ("%d of rank %d's convolutions cannot be computed as on the other ranks, and were chosen anew")
      :format(other.others, rank))
  end
end

--- exchange(device): all ranks call it together, each with its own device. If a device has no plans, no rank has any,
-- and nothing is exchanged.
function plans.exchange(device)
  if dist.alone or not plans.has(device) then return end
  local kind = kind_of(device)
  local own = unsettled(kind, core.cuda.plans(seen + 1).plans)
  local first = json.decode(core.dist.broadcast_string(json.encode { kind = kind, plans = own }))
  settle_all(first.kind, first.plans, kind)
  own = unsettled(kind, own)
  local others = settled[kind] and count_others(kind) or 0
  local is_news = #own > 0 or kind ~= first.kind or others > 0
  local texts = core.dist.gather_strings(is_news and json.encode { kind = kind, plans = own, others = others } or "")
  for i, text in ipairs(texts) do
    local other = text ~= "" and json.decode(text)
    if other then
      settle_all(other.kind, other.plans, kind)
      tell(i - 1, first.kind, other)
    end
  end
  seen = seen + #core.cuda.plans(seen + 1).plans
end

--- give(device, kind, plan): restores a plan that the job had before. All ranks make the same calls.
function plans.give(device, kind, plan) settle(kind, plan, kind_of(device)) end

--- of_other_chips(device) -> {{chip =, library =, plans = {text, ...}}, ...}: the plans settled for other chips.
function plans.of_other_chips(device)
  local list, own = {}, plans.chip(device)
  for kind, of in pairs(settled) do
    local chip, library = table.unpack(json.decode(kind))
    local texts = {}
    for i, purpose in ipairs(of) do texts[i] = of[purpose] end
    if chip ~= own then list[#list + 1] = { chip = chip, library = library, plans = texts } end
  end
  return list
end

return plans

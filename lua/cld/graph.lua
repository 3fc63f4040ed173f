--- A training step as a CUDA graph: captured once, then replayed by one call, so that the GPU never waits for Lua.
--
--   local step = cld.graph(function(views, index, rate)
--     local loss = ...
--     sgd:step(loss, { lr = rate })
--     return { loss = loss }
--   end)
--   for batch in loader:epoch(epoch) do
--     local rate = lr(run.step)
--     run:track(step(batch.views, batch.index, rate), { lr = rate })
--   end
local caller = require "cld.caller"
local core = require "cld.core"
local dist = require "cld.dist"
local noted = require "cld.nn.noted"
local parts = require "cld.nn.parts"
local plans = require "cld.plans"
local create, is_tensor = core.tensor, core.tensor.is_tensor

-- The number of calls of each kind before the captured one. They make what is not part of the step: momentum buffers,
-- and the libraries' plans.
local WARM_UP = 2

-- The most graphs for a kind of call, one for each state of the step's modules (training, evaluating); beyond that the
-- oldest is dropped.
local MOST_STATES = 4

local plain = { ["nil"] = true, boolean = true, string = true }

local function kind_of(value) return is_tensor(value) and "tensor" or type(value) end
local function is_leaf(value) return type(value) == "number" or is_tensor(value) end

local function by_type_and_value(a, b)
  local kind = type(a)
  if kind ~= type(b) then return kind < type(b) end
  if kind == "boolean" then return a and not b end
  return (kind == "string" or kind == "number") and a < b
end

local function keys_of(value)
  local keys = {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys, by_type_and_value)
  return keys
end

-- Returns the value with visit applied to every tensor and number, in nested tables too, always in the same order.
local function map(value, visit)
  if is_leaf(value) then return visit(value) end
  if type(value) ~= "table" or getmetatable(value) then return value end
  local mapped = {}
  for _, key in ipairs(keys_of(value)) do mapped[key] = map(value[key], visit) end
  return mapped
end

-- The same for a list from table.pack.
local function map_list(list, visit)
  local mapped = { n = list.n }
  for i = 1, list.n do mapped[i] = map(list[i], visit) end
  return mapped
end

-- Refuses a tensor that requires a gradient: none would flow back through the copy that the step gets.
local function check_gradient(tensor)
  if tensor.requires_grad and core.autograd.is_grad_enabled() then
    caller.raise("graph: an argument that requires a gradient, %s[%s], is copied for a captured step, and gets none:"
      .. " let the step take it from outside, or detach it", tensor.dtype, table.concat(tensor.shape, ", "))
  end
end

local function raise_no_argument(value)
  caller.raise("graph: %s is no argument of a captured step; expected tensors, numbers, strings, booleans and tables"
    .. " of them: all else belongs in a local variable outside of it", caller.shown(value))
end

-- Appends the words for a value: calls of the same kind have the same words.
local function describe(value, words)
  local kind = kind_of(value)
  if kind == "tensor" then
    check_gradient(value)
    words[#words + 1] = ("%s[%s]"):format(value.dtype, table.concat(value.shape, ","))
  elseif kind == "table" and not getmetatable(value) then
    words[#words + 1] = "{"
    for _, key in ipairs(keys_of(value)) do
      if type(key) ~= "number" and not plain[type(key)] then raise_no_argument(key) end
      words[#words + 1] = ("%q ="):format(key)
      describe(value[key], words)
    end
    words[#words + 1] = "}"
  elseif plain[kind] then
    words[#words + 1] = ("%q"):format(value)
  elseif kind == "number" then
    words[#words + 1] = kind
  else
    raise_no_argument(value)
  end
end

-- The kind of a call as text: the arguments, and all else that a captured step depends on, except the seed.
local function kind_of_call(arguments)
  local words = { tostring(core.autograd.is_grad_enabled()), core.autograd.precision() }
  words[#words + 1] = parts.described()
  words[#words + 1] = dist.described()
  for i = 1, arguments.n do describe(arguments[i], words) end
  return table.concat(words, " ")
end

-- The device of the first tensor on a device that can capture. On the cpu a step accepts any arguments, even cyclic
-- tables.
local function device_of(value, seen)
  if is_tensor(value) then return core.graph.available(value.device) and value.device or nil end
  if type(value) ~= "table" or getmetatable(value) or seen[value] then return nil end
  seen[value] = true
  for _, key in ipairs(keys_of(value)) do
    local found = device_of(value[key], seen)
    if found then return found end
  end
end

local function detached(value) return is_tensor(value) and value:detach() or value end

-- ---- one kind of call ---------------------------------------------------------

local function on_device(value, device)
  if not is_tensor(value) or value.device == device then return value end
  return value:detach():to(device)
end

-- Inside another step's capture the call belongs to that capture, with the caller's own arguments and results.
local function call_within(step, device, arguments)
  local given = map_list(arguments, function(value)
    if type(value) == "number" then return create.full({}, value, { dtype = "f64", device = device }) end
    return on_device(value, device)
  end)
  return map_list(table.pack(step(table.unpack(given, 1, given.n))), detached)
end

local function call_plainly(step, device, arguments)
  local given = map_list(arguments, function(value) return on_device(value, device) end)
  return table.pack(step(table.unpack(given, 1, given.n)))
end

-- A new kind of call, with the tensors that hold its arguments: they are made before a capture, and so are not in the
-- graph's own memory.
local function new_kind(device, arguments)
  local values, tensors = {}, {}
  map_list(arguments, function(value)
    values[#values + 1] = value
    if is_tensor(value) then tensors[#tensors + 1] = value end
  end)
  local given, inputs, next_given = #tensors > 0 and core.graph.inputs(tensors, device), {}, 0
  for i, value in ipairs(values) do
    if is_tensor(value) then next_given = next_given + 1 end
    inputs[i] = is_tensor(value) and given[next_given] or create.zeros({}, { dtype = "f64", device = device })
  end
  return { calls = 0, inputs = inputs, notes = {} }
end

-- Copies the arguments into the kind's own tensors.
local function fill(kind, arguments)
  local i = 0
  return map_list(arguments, function(value)
    i = i + 1
    local input = kind.inputs[i]
    if type(value) == "number" then input:fill_(value) else core.graph.set(input, value) end
    return input
  end)
end

local function run(step, given) return map_list(table.pack(step(table.unpack(given, 1, given.n))), detached) end
local function run_step(kind, step, given) return noted.during(kind.notes, run, step, given) end

-- Records step's work: kind.graph, kind.results.
local function capture(kind, step, device, given)
  collectgarbage() -- so that no memory is set aside for dead tensors
  kind.graph, kind.results = core.graph.record(device, run_step, kind, step, given)
end

-- A call that is not captured. The first one chooses convolution algorithms; if the ranks have met in it, they exchange
-- their choices before the last one.
local function warm_up(kind, step, device, given)
  if kind.calls == WARM_UP and kind.meets then plans.exchange(device) end
  local before = core.dist.counted().collectives
  local results = run_step(kind, step, given)
  kind.meets = core.dist.counted().collectives > before
  return results
end

local function close(kind)
  if kind.graph then kind.graph:close() end
end

-- The known kinds. A graph contains the seed of its capture: when the seed changes, graphs and their memory are
-- dropped.
local function kinds_of(captured)
  local seed = create.get_rng_state().seed
  if seed ~= captured.seed then
    for _, states in pairs(captured.kinds) do
      for _, kind in ipairs(states) do close(kind) end
    end
    captured.seed, captured.kinds = seed, {}
  end
  return captured.kinds
end

-- The kind of this call, for the modules' current state; a new one if there is none yet.
local function kind_for(captured, device, arguments)
  local name, kinds = kind_of_call(arguments), kinds_of(captured)
  local states = kinds[name] or {}
  kinds[name] = states
  for _, kind in ipairs(states) do
    if noted.holds(kind.notes) then return kind end
  end
  if #states == MOST_STATES then close(table.remove(states, 1)) end
  states[#states + 1] = new_kind(device, arguments)
  return states[#states]
end

local function call_captured(step, captured, device, arguments)
  local kind = kind_for(captured, device, arguments)
  local given = fill(kind, arguments)
  kind.calls = kind.calls + 1
  if kind.calls <= WARM_UP then return warm_up(kind, step, device, given) end
  if not kind.graph then capture(kind, step, device, given) end
  kind.graph:replay()
  return map_list(kind.results, detached) -- new tensors, which the caller may close
end

-- ---- cld.graph ------------------------------------------------------------------

--- cld.graph(step[, {enabled = true, device}]) -> function: returns a function that does what step does. On the CPU,
-- or with enabled = false, it calls step. On CUDA it calls step the first few times, then captures the work that a
-- call queues on the device. Later calls replay the capture with new values: step's Lua code no longer runs. Each kind
-- of call is captured separately; a kind is the shapes and dtypes of the tensors, the strings, the booleans, and the
-- state of the modules that step calls (training or not, and their tensors). `device`: where the tensors should be; by
-- default the device of the first one on CUDA.
--
-- Arguments are tensors, numbers, strings, booleans and nested tables of them. Tensors are moved to the device. A
-- captured step gets copies, through which no gradient flows, and each number as a tensor (f64, of no dimension).
-- Without capture, the results are those of step. With it they are detached, and every call of a kind writes to the
-- same memory: read or copy them before the next call.
--
-- Any other value that step reads, except tensors (sgd.lr, for example), keeps its value from the capture. Tensors on
-- the device are read again at their old address, so they must be neither closed nor replaced; write new values into
-- them, as load_state_dict does. step may move a cpu tensor to the device only if it made that tensor itself. It must
-- not wait for the device, as :item() does: that is an error, which ends the capture. Gradients must begin in it: call
-- sgd:step(loss), sgd:begin() or sgd:zero_grad() before anything adds to them. Outside the step a parameter's .grad is
-- that of the last captured step, if any: do not rely on it. Random numbers continue as without a graph; a new seed
-- starts a new capture.
--
--     local net = cld.nn.linear(4, 1)
--     local sgd = cld.optim.sgd(net, { lr = 0.1 })
--     local step = cld.graph(function(x)
--       local loss = net(x):square():mean()
--       sgd:step(loss)
--       return { loss = loss }
--     end)
--     print(step(cld.ones(8, 4)).loss.ndim)     --> 0
local function graph(step, options)
  if type(step) ~= "function" then caller.raise("graph: expected a function, got %s", caller.shown(step)) end
  caller.check_fields("graph", options, { "enabled", "device" })
  options = options or {}
  if options.enabled ~= nil and type(options.enabled) ~= "boolean" then
    caller.raise("graph: enabled must be true or false, got %s", caller.shown(options.enabled))
  end
  local where = options.device and caller.call("graph", core.cuda.resolve, options.device)
  local captured = { kinds = {} }
  return function(...)
    local arguments = table.pack(...)
    local device = where or device_of(arguments, {})
    if not device or device == "cpu" then return caller.user(step, ...) end
    local is_captured = options.enabled ~= false and core.graph.available(device)
    local results = not is_captured and call_plainly(step, device, arguments)
      or core.graph.capturing() and call_within(step, device, arguments)
      or call_captured(step, captured, device, arguments)
    return table.unpack(results, 1, results.n)
  end
end

return graph

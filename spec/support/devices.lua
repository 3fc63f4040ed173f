--- The devices whose results the backend_*_spec.lua compare with the cpu's. There is one if the library named by
-- CLD_CUDA_PLUGIN, or the one beside the interpreter, provides it: for `make test` the emulated device, whose kernels
-- run on the host, for `make gpu-check` a GPU. Without such a library there is nothing to compare. A named library
-- without a device is an error.
--
--     devices.each("softmax", function(device)
--       devices.cases(device, {
--         ["of rows"] = { function(x) return x:softmax(-1) end, function() return formula.waves(3, 33):to "f32" end },
--       })
--     end)
local cld = require "cld"
local check = require "spec.support.check"
local busted = require "busted" -- a required file does not see describe and it as globals

local devices = {}

local found, reason = cld.cuda.devices()
if #found == 0 and os.getenv "CLD_CUDA_PLUGIN" then error("no device to test: " .. tostring(reason)) end
devices.names = #found > 0 and { "cuda" } or {}

--- Runs body(device) in its own describe block for each device.
function devices.each(title, body)
  for _, device in ipairs(devices.names) do
    busted.describe(title .. " on " .. device, function() body(device) end)
  end
end

local function is_tensor(x) return type(x) == "userdata" and x.dtype ~= nil end

--- The value with every tensor in it, also in nested tables, on the device.
function devices.to(device, value)
  if is_tensor(value) then return value:detach():to(device) end
  if type(value) ~= "table" then return value end
  local moved = {}
  for k, v in pairs(value) do moved[k] = devices.to(device, v) end
  return moved
end

local function wants_gradient(x) return is_tensor(x) and (x.dtype == "f32" or x.dtype == "f64") end

-- f's results for the inputs on the device, then the gradients if they are requested.
local function results(device, f, inputs, gradients)
  local count = inputs.n or #inputs
  local moved = {}
  for i = 1, count do
    moved[i] = devices.to(device, inputs[i])
    if gradients and wants_gradient(moved[i]) then moved[i]:requires_grad_() end
  end
  moved[count + 1] = device
  local list = table.pack(f(table.unpack(moved, 1, count + 1)))
  if not gradients then return list end
  local y = list[1]
  list[1] = y:detach()
  local weights = (cld.arange(0, y:numel(), 1):to "f64" * 0.7 + 0.4):cos():reshape(y.shape)
  y:backward(weights:to(y.dtype):to(device))
  for i = 1, count do
    if wants_gradient(moved[i]) then
      list.n = list.n + 1
      list[list.n] = moved[i].grad
    end
  end
  return list
end

local function check_same(actual, expected, device, i, options)
  local what = "result " .. i
  if is_tensor(expected) then
    local a = ("%s of %s on %s"):format(actual.dtype, table.concat(actual.shape, "x"), actual.device:match "%a+")
    local e = ("%s of %s on %s"):format(expected.dtype, table.concat(expected.shape, "x"), device)
    if a ~= e then error(("%s is %s, expected %s"):format(what, a, e), 0) end
  end
  local ok, message = pcall(check.close, actual, expected, options)
  if not ok then error(what .. ": " .. tostring(message), 0) end
end

--- Raises unless f(inputs..., device) gives the same on the device as on the cpu: tensors of one dtype and shape, with
-- elements that agree as in check.close (options are passed on; NaN agrees with NaN). options.gradients: also the
-- gradients of the first result with respect to the f32 and f64 inputs.
function devices.same(device, f, inputs, options)
  options = options or {}
  local expected = results("cpu", f, inputs, options.gradients)
  local actual = results(device, f, inputs, options.gradients)
  local limits = { atol = options.atol, rtol = options.rtol, nan = options.nan ~= false }
  for i = 1, expected.n do check_same(actual[i], expected[i], device, i, limits) end
end

--- One test for each case in the table: name = {f, inputs..., atol =, rtol =, gradients =}. An input may be a function,
-- which makes it (a tensor, or a list of them) when the test runs, so that none stays alive between tests.
function devices.cases(device, cases)
  local names = {}
  for name in pairs(cases) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    busted.it(name, function()
      local case, inputs = cases[name], {}
      for i = 2, #case do inputs[i - 1] = type(case[i]) == "function" and case[i]() or case[i] end
      devices.same(device, case[1], inputs, case)
    end)
  end
end

return devices

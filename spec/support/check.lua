--- Comparisons for the specs. Every comparison is written `not (error <= tolerance)`, so that NaN fails.
local cld = require "cld"

local check = {}

-- The default {absolute, relative} tolerances; of the two dtypes, the coarser one counts.
local tolerances = {
  f64 = { 1e-12, 1e-10 }, f32 = { 1e-6, 1e-5 }, bf16 = { 1e-2, 1e-2 }, f16 = { 1e-3, 1e-3 },
  i64 = { 0, 0 }, i32 = { 0, 0 }, u8 = { 0, 0 }, number = { 1e-12, 1e-10 },
}

-- The value as a plain number or nested table, and the dtype it came from.
local function plain(value)
  if type(value) == "userdata" then return value:totable(), value.dtype end
  return value, "number"
end

local function where(path) return #path == 0 and "the value" or "element [" .. table.concat(path, "][") .. "]" end

-- Calls visit(x, y, path) for each pair of leaves; raises at the first difference in structure.
local function walk(x, y, path, visit)
  if type(x) ~= "table" and type(y) ~= "table" then return visit(x, y, path) end
  local nx, ny = type(x) == "table" and #x, type(y) == "table" and #y
  if nx ~= ny then
    local function extent(n) return n and n .. " entries" or "a plain value" end
    error(("%s: %s against %s"):format(where(path), extent(nx), extent(ny)), 0)
  end
  for i = 1, nx do
    path[#path + 1] = i
    walk(x[i], y[i], path, visit)
    path[#path] = nil
  end
end

--- Raises unless actual and expected (tensors, nested tables or numbers) agree: |a - e| <= atol + rtol * |e| in every
-- element. NaN agrees with nothing unless options.nan is true. The message names the first bad element.
function check.close(actual, expected, options)
  options = options or {}
  local a, a_dtype = plain(actual)
  local e, e_dtype = plain(expected)
  local ta, te = tolerances[a_dtype], tolerances[e_dtype]
  local atol = options.atol or math.max(ta[1], te[1])
  local rtol = options.rtol or math.max(ta[2], te[2])
  local bad, total, worst, first = 0, 0, 0, nil
  local ok, message = pcall(walk, a, e, {}, function(x, y, path)
    total = total + 1
    if type(x) ~= "number" or type(y) ~= "number" then
      if x == y then return end
    elseif x == y or (options.nan and x ~= x and y ~= y) then
      return
    end
    local err = type(x) == "number" and type(y) == "number" and math.abs(x - y) or 0 / 0
    if err <= atol + rtol * math.abs(tonumber(y) or 0) and err < math.huge then return end
    bad = bad + 1
    if not (err <= worst) then worst = err end
    first = first or ("%s is %s, expected %s"):format(where(path), tostring(x), tostring(y))
  end)
  if not ok then error("shapes differ: " .. message, 2) end
  if first then
    error(("%s; %d of %d differ, worst error %.3g (atol %g, rtol %g)"):format(first, bad, total, worst, atol, rtol), 2)
  end
end

--- Raises unless f() raises a message that contains the Lua pattern. Returns the message.
function check.fails(f, pattern)
  local ok, message = pcall(f)
  message = tostring(message)
  if ok then error("expected an error that matches '" .. pattern .. "', there was none", 2) end
  if not message:find(pattern) then
    error("expected an error that matches '" .. pattern .. "', got: " .. message, 2)
  end
  return message
end

--- Raises unless f's gradients agree with central differences.
check.gradcheck = cld.autograd.gradcheck

return check

--- Comparisons for the specs. Every comparison is written `not (error <= tolerance)`, so that NaN fails.
local cld = require "cld"

local check = {}

-- {absolute, relative} where the caller gives none: by the coarser dtype of the two.
local tolerances = {
  f64 = { 1e-12, 1e-10 }, f32 = { 1e-6, 1e-5 }, bf16 = { 1e-2, 1e-2 }, f16 = { 1e-3, 1e-3 },
  i64 = { 0, 0 }, i32 = { 0, 0 }, u8 = { 0, 0 }, number = { 1e-12, 1e-10 },
}

-- A plain value or nested table, and the dtype it came from.
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

--- Raises unless actual and expected (tensors, nested tables or numbers) agree: |a - e| <= atol + rtol * |e| in
-- every element, NaN agreeing with nothing unless options.nan is true. The message names the first bad element.
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

--- Raises unless f() raises a message in which the Lua pattern is found. Returns the message.
function check.fails(f, pattern)
  local ok, message = pcall(f)
  message = tostring(message)
  if ok then error("expected an error that matches '" .. pattern .. "', there was none", 2) end
  if not message:find(pattern) then
    error("expected an error that matches '" .. pattern .. "', got: " .. message, 2)
  end
  return message
end

-- Every leaf of a nested table as {table, key}; a plain number becomes the only entry of a new table.
local function leaves(value)
  local list = {}
  local root = { value }
  local function visit(parent, key)
    if type(parent[key]) == "table" then
      for i = 1, #parent[key] do visit(parent[key], i) end
    else
      list[#list + 1] = { parent, key }
    end
  end
  visit(root, 1)
  return list, root
end

-- Fixed weights of no symmetry, so that a gradient that is right only for a plain sum is found out.
local function weight(i) return 0.5 + (i * 0.6180339887498949) % 1 end

-- The weights in the shape of `value`.
local function weights_like(value)
  local list, root = leaves(value)
  for i, leaf in ipairs(list) do leaf[1][leaf[2]] = weight(i) end
  return root[1]
end

local function weighted_sum(tensor)
  local sum = 0
  for i, leaf in ipairs((leaves(tensor:totable()))) do sum = sum + weight(i) * leaf[1][leaf[2]] end
  return sum
end

--- Raises unless the gradients of f(table.unpack(inputs)), weighted and summed, agree with central differences.
-- f returns one f64 tensor of any shape. Each f64 input is checked; others (indices, masks) pass through unchanged.
-- options: eps (1e-5), atol (1e-7), rtol (1e-5), device: where f gets its inputs (cpu).
function check.gradcheck(f, inputs, options)
  options = options or {}
  local eps, atol, rtol = options.eps or 1e-5, options.atol or 1e-7, options.rtol or 1e-5
  local count = inputs.n or #inputs

  local function is_checked(x) return type(x) == "userdata" and x.dtype == "f64" end
  local function placed(x) return type(x) == "userdata" and x:to(options.device or "cpu") or x end

  -- f on fresh leaves, for the gradients of the tape.
  local fresh = {}
  for i = 1, count do
    local x = inputs[i]
    fresh[i] = is_checked(x) and placed(cld.tensor(x:totable(), "f64")):requires_grad_() or placed(x)
  end
  local out = f(table.unpack(fresh, 1, count))
  if out.dtype ~= "f64" then error("gradcheck: f returned a tensor of " .. out.dtype .. ", not of f64", 2) end
  out:backward(placed(cld.tensor(weights_like(out:totable()), "f64")))

  for i = 1, count do
    if is_checked(inputs[i]) then
      local gradient = fresh[i].grad
      if not gradient then error(("gradcheck: input %d got no gradient"):format(i), 2) end
      local analytic = leaves(gradient:totable())
      local list, root = leaves(inputs[i]:totable())
      local arguments = {}
      for k = 1, count do arguments[k] = placed(inputs[k]) end
      local function at(leaf, value)
        leaf[1][leaf[2]] = value
        arguments[i] = placed(cld.tensor(root[1], "f64"))
        return weighted_sum(f(table.unpack(arguments, 1, count)))
      end
      for j, leaf in ipairs(list) do
        local x = leaf[1][leaf[2]]
        local numeric = (at(leaf, x + eps) - at(leaf, x - eps)) / (2 * eps)
        leaf[1][leaf[2]] = x
        local a = analytic[j][1][analytic[j][2]]
        local err = math.abs(a - numeric)
        if not (err <= atol + rtol * math.abs(numeric)) then
          error(("gradcheck: input %d, element %d (row-major): backward %.9g, central difference %.9g, error %.3g")
            :format(i, j, a, numeric, err), 2)
        end
      end
    end
  end
end

return check

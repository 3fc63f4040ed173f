--- BYOL's loss. It takes only a few operations, so it is written in Lua. See cld.losses.byol.
local caller = require "cld.caller"
local core = require "cld.core"
local create, no_grad, join = core.tensor, core.autograd.no_grad, core.nn.join_rows

local function check(rows)
  local names = { "p1", "p2", "t1", "t2" }
  for i, name in ipairs(names) do
    local x, first = rows[i], rows[1]
    if not create.is_tensor(x) or x.ndim ~= 2 or #x == 0 then
      caller.raise("byol: %s is %s; expected features (n, dim) of at least one image", name, caller.shown(x))
    elseif x.dtype ~= first.dtype or x.shape[1] ~= first.shape[1] or x.shape[2] ~= first.shape[2] then
      caller.raise("byol: p1 is %s, %s %s; expected the same dtype and shape", caller.shown(first), name,
        caller.shown(x))
    elseif x.device ~= first.device then
      caller.raise("byol: p1 is on %s, %s on %s", first.device, name, x.device)
    end
  end
end

local function targets(t1, t2)
  local _ <close> = no_grad()
  local rows <close> = join { t2, t1 }
  return rows:normalize()
end

-- scale / 2 (mean(1 - cos(p1, t2)) + mean(1 - cos(p2, t1))), of 2 n cosines.
local function byol(p1, p2, t1, t2, scale)
  local rows <close> = join { p1, p2 }
  local p <close> = rows:normalize()
  local t <close> = targets(t1, t2)
  local products <close> = p * t
  local sum <close> = products:sum()
  local mean <close> = sum * (-scale / #p)
  return mean + scale
end

return function(p1, p2, t1, t2, scale)
  if scale == nil then scale = 1 end
  if type(scale) ~= "number" or not (scale > 0 and scale < math.huge) then
    caller.raise("byol: scale is %s; expected a number above 0", caller.shown(scale))
  end
  check { p1, p2, t1, t2 }
  return caller.call("byol", byol, p1, p2, t1, t2, scale)
end

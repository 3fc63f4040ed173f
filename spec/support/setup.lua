--- Runs once before the specs. A test fails unless it leaves as many tensors alive as it found. `cld` is loaded here,
-- before any file and with all its modules, so that busted's per-file isolation does not load parts of it again, which
-- would then not know the others' types.
local busted = require "busted"
local cld = require "cld"
for _ in pairs(cld) do end -- pairs loads what is otherwise loaded on first use
local tensors_alive = cld.tensors_alive or function() return 0 end

local settled = 0 -- the count after the last collection

-- Unreachable tensors do not count as alive, but a garbage collection takes longer than most tests. So collect only if
-- the count is not `expected`, twice for tensors that finalizers release.
local function alive(expected)
  if tensors_alive() ~= expected then
    collectgarbage()
    collectgarbage()
  end
  settled = tensors_alive()
  return settled
end

-- The check is part of the test itself, so that a leak is a failure of that test and not a separate error.
busted.subscribe({ "test", "start" }, function(element)
  local run = element.run
  local before = alive(settled)
  element.run = function(...)
    run(...)
    local after = alive(before)
    if after > before then
      error(("leak: %d tensors alive before this test, %d after it. Release a tensor that outlives its test (an"
        .. " upvalue, a module's cache, a loader that was not closed) before the test ends"):format(before, after), 0)
    end
  end
  return nil, true
end)

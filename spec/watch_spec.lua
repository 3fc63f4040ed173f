--- The watch over a job's ranks, runtime/dist/watch.h: jobs of spec/support/watch.c in which something breaks.
local process = require "spec.support.process"

-- Under the sanitizers everything takes longer.
local timeout = process.build:find "asan" and 3 or 1.75
local seconds = ("%g s"):format(timeout):gsub("%.", "%%.")

-- How the job ended: each rank's end, and the lines on standard error.
local function job(case, world, rank, limit)
  local result = process.run {
    program = process.build .. "/spec/watch", case, tostring(world), tostring(rank or 0), tostring(limit or timeout),
  }
  local ends, lines = {}, {}
  for r, how in result.out:gmatch "(%d+) (%a+ %d+)\n" do ends[tonumber(r)] = how end
  for line in result.err:gmatch "[^\n]+" do lines[#lines + 1] = line end
  return { ends = ends, lines = lines, code = result.code, seconds = tonumber(result.out:match "([%d.]+) seconds") }
end

-- All ranks' ends: `others`, but for the ranks in `but`.
local function ends(world, others, but)
  local list = {}
  for r = 0, world - 1 do list[r] = but and but[r] or others end
  return list
end

-- A job that says one line, which names the rank and the cause, and whose ranks end as they should, soon.
local function breaks(case, world, rank, line, but)
  local result = job(case, world, rank)
  assert.equal(0, result.code)
  assert.equal(1, #result.lines, table.concat(result.lines, "\n"))
  assert.matches(line, result.lines[1])
  assert.same(ends(world, "status 1", but), result.ends)
  assert.is_true(result.seconds < 2 * timeout + 3)
end

local function passes(case, world, rank)
  local result = job(case, world, rank, 20)
  assert.same({ lines = {}, ends = ends(world, "status 0"), code = 0, seconds = result.seconds }, result)
end

describe("the watch over ranks", function()
  it("is silent when all end, one after the other", function() passes("end", 5) end)
  it("is silent with one rank", function() passes("end", 1) end)
  it("drops strangers that send garbage, or lies without the key", function() passes("stray", 3) end)

  it("blames nobody when the whole job was suspended", function()
    local result = job("suspend", 3)
    assert.same({ {}, ends(3, "status 0") }, { result.lines, result.ends })
  end)

  for _, world in ipairs { 3, 5 } do
    it(("of %d names a rank that is killed"):format(world), function()
      breaks("kill", world, 2, "^cldlua: rank 2 on %S+ has died", { [2] = "signal 9" })
    end)

    it(("of %d names rank 0 when that is killed"):format(world), function()
      breaks("kill", world, 0, "^cldlua: rank 0 on %S+ has died", { [0] = "signal 9" })
    end)
  end

  it("speaks from the last rank that is left", function()
    breaks("machine", 3, 1, "^cldlua: rank 0 on %S+ has died", { [0] = "signal 9", [1] = "signal 9" })
  end)

  it("passes by those that died with rank 0", function()
    breaks("machine", 5, 2, "^cldlua: rank 0 on %S+ has died",
      { [0] = "signal 9", [1] = "signal 9", [2] = "signal 9" })
  end)

  it("names a rank that left without a word", function()
    breaks("exit", 3, 1, "^cldlua: rank 1 on %S+ has died", { [1] = "status 0" })
  end)

  for rank = 0, 1 do
    it(("says it before the launcher kills the others, rank %d gone"):format(rank), function()
      local result = job("launcher", 5, rank)
      assert.equal(1, #result.lines, table.concat(result.lines, "\n"))
      assert.matches(("^cldlua: rank %d on %%S+ has died"):format(rank), result.lines[1])
    end)

    it(("names rank %d when it stands still, which leaves without a word if it wakes up"):format(rank), function()
      breaks("wake", 3, rank, ("^cldlua: rank %d on %%S+ has not been heard from for %s"):format(rank, seconds))
    end)

    it(("names rank %d when its main thread hangs"):format(rank), function()
      breaks("hang", 3, rank,
        ("^cldlua: rank %d on %%S+ hangs: others have waited for it for %s"):format(rank, seconds))
    end)

    it(("names rank %d when it ends while others wait"):format(rank), function()
      breaks("early", 3, rank, ("^cldlua: rank %d on %%S+ ended while others went on"):format(rank))
    end)

    it(("takes the death of a rank for the reason of rank %d's error"):format(rank), function()
      local killed = rank + 1
      breaks("refused", 3, rank, ("^cldlua: rank %d on %%S+ has died"):format(killed), { [killed] = "signal 9" })
    end)
  end

  it("says that all wait for nobody", function()
    breaks("stuck", 3, 0, "^cldlua: all ranks have waited in the same collective")
  end)

  it("says which rank failed, and how", function()
    breaks("fail", 3, 2, "^cldlua: rank 2 on %S+ failed: disk full$")
  end)

  it("leaves rank 0's own error to it", function() breaks("fail", 3, 0, "^cldlua: disk full$") end)

  it("shows an error that all ranks have as rank 0 prints it, once", function()
    breaks("fail_all", 5, 0, "^cldlua: unknown option %-%-lrr$")
  end)

  it("names the rank that got a signal alone", function()
    breaks("term", 3, 1, "^cldlua: rank 1 on %S+ was ended by SIGTERM", { [1] = "status 143" })
  end)

  it("is silent when all get the signal", function()
    local result = job("term_all", 5)
    assert.same({ {}, ends(5, "status 143") }, { result.lines, result.ends })
  end)
end)

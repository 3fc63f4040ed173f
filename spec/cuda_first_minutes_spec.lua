--- spec/gpu/first_ten_minutes.sh without a GPU: it runs to its end, and says what each step lacks.
local process = require "spec.support.process"

describe("the first ten minutes on a GPU", function()
  local function run(env)
    env.BUILD, env.CLD_CUDA_PLUGIN = process.build, "/nowhere/libcld_cuda.so"
    env.PEER_PYTHON, env.OUT = env.PEER_PYTHON or "/nowhere/python", env.OUT or ""
    return process.run { program = "sh", "spec/gpu/first_ten_minutes.sh", env = env, timeout = 120 }
  end

  it("end with a table of all steps, each with what it lacks and a log, kept under $OUT as well", function()
    local folder = process.temporary_folder()
    local result = run { OUT = folder }
    local steps, out = {}, folder .. "/first-ten-minutes"
    for number, name, rest in result.out:match "\nafter %d+ s:\n(.*)$":gmatch " *(%d+) (%S+) +([^\n]+)\n" do
      steps[#steps + 1] = name
      assert.equal(#steps, tonumber(number))
      if rest:find "^left out" then
        assert.matches("  no ", rest)
      elseif not name:find "^peer" then -- with a peer of the system's the reason is PyTorch's
        assert.matches("^failed 1 +%d+ s .*cannot load '/nowhere/libcld_cuda.so'", rest)
        local log = process.read(("%s/%02d-%s.log"):format(out, number, name))
        assert.matches("cannot load '/nowhere/libcld_cuda.so'", log)
      end
    end
    assert.equal("machine libraries kernels graph step-plain step-graph ncu resnet50 peer-npid peer-resnet50 memcheck"
      .. " recipe", table.concat(steps, " "))
    assert.equal(result.out:match "\nafter %d+ s:\n(.*)$", process.read(out .. "/summary.txt"))
    assert.equal("", result.err)
    assert.equal(1, result.code)
    process.remove(folder)
  end)

  it("keep an earlier run's logs", function()
    local logs = process.build .. "/first-ten-minutes"
    os.execute(("mkdir -p '%s' && echo old >'%s/summary.txt'"):format(logs, logs))
    run {}
    assert.equal("old\n", process.read(logs .. ".before/summary.txt"))
  end)

  it("give up on a python3 that hangs", function()
    local folder = process.temporary_folder()
    process.write(folder .. "/python", "#!/bin/sh\nsleep 1000\n")
    process.write(folder .. "/timeout", ([[#!/bin/sh
      [ "$4" = %s/python ] || exec /usr/bin/timeout "$@"
      exec /usr/bin/timeout 1 "$4"
    ]]):format(folder)) -- a minute is long for a spec
    os.execute(("chmod +x %s/python %s/timeout"):format(folder, folder))
    local result = run { PEER_PYTHON = folder .. "/python", PATH = folder .. ":" .. os.getenv "PATH" }
    assert.matches("\nafter %d+ s:\n", result.out)
    process.remove(folder)
  end)

  it("leave nothing of a step that has come to its limit running", function()
    local mark = "CLD_SPEC_STEP=" .. process.temporary_folder()
    local function alive()
      return os.execute(("grep -qsF '%s' /proc/[0-9]*/environ"):format(mark))
    end
    local check = ("%s timeout 3 '%s' spec/gpu/check.lua --build '%s' --only kernels >/dev/null 2>&1")
      :format(mark, process.cldlua, process.build)
    local _, _, code = os.execute(check)
    assert.equal(124, code)
    os.execute "sleep 1"
    assert.is_nil(alive())
    process.remove(mark:match "=(.*)")
  end)

  it("refuse minutes that are none", function()
    assert.matches("first_ten_minutes: MINUTES=ten: expected a whole number of minutes\n", run { MINUTES = "ten" }.err)
    assert.equal(1, run({ MINUTES = "0" }).code)
  end)
end)

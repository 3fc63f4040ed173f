--- `make demo`, `make demo-images` and `make demo-moco`, with their programs replaced by one that records its
-- arguments: what happens to the previous demo's run.
local cld = require "cld"
local process = require "spec.support.process"

describe("make demo", function()
  local build, run
  before_each(function()
    build = process.temporary_folder()
    run = build .. "/runs/demo-1"
    cld.io.mkdir(build .. "/toy-1")
    cld.io.mkdir(run)
    process.write(run .. "/checkpoint.safetensors", "old")
    process.write(build .. "/cldlua", "#!/bin/sh\necho \"$1\" >>'" .. build .. "/told'\n")
    os.execute("chmod +x " .. build .. "/cldlua")
  end)
  after_each(function() process.remove(build) end)

  local function demo(path, target)
    return process.run { program = "make", "-o", "all", target or "demo", "BUILD=" .. build, "CUDA_ARCH=",
      env = { PATH = path }, unset = { "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "SEED" } }
  end

  local function is_refused(pattern, path)
    local result = demo(path)
    assert.equal(2, result.code)
    assert.matches(pattern, result.out)
    assert.equal("old", process.read(run .. "/checkpoint.safetensors"))
    assert.is_nil(cld.io.exists(build .. "/told"))
  end

  it("starts afresh where the last one has ended", function()
    assert.equal(0, demo().code)
    assert.is_nil(cld.io.exists(run))
    assert.equal("recipes/cifar10_npid_cld.lua\nrecipes/knn.lua\n", process.read(build .. "/told"))
  end)

  it("has a run of its own for image files", function()
    cld.io.mkdir(build .. "/toy-images-1")
    cld.io.mkdir(build .. "/runs/demo-images-1")
    assert.equal(0, demo(nil, "demo-images").code)
    assert.is_nil(cld.io.exists(build .. "/runs/demo-images-1"))
    assert.is_not_nil(cld.io.exists(run))
    assert.equal("recipes/folder_npid_cld.lua\nrecipes/knn.lua\n", process.read(build .. "/told"))
  end)

  it("evaluates MoCo v2 + CLD by a linear classifier too, in a run of its own", function()
    cld.io.mkdir(build .. "/toy-moco-1")
    cld.io.mkdir(build .. "/runs/demo-moco-1-linear")
    local result = demo(nil, "demo-moco")
    assert.equal(0, result.code, result.err)
    assert.matches("momentum is 0.99 and not 0.999", result.out)
    assert.is_nil(cld.io.exists(build .. "/runs/demo-moco-1-linear"))
    assert.equal("recipes/folder_mocov2_cld.lua\nrecipes/knn.lua\nrecipes/linear.lua\n",
      process.read(build .. "/told"))
  end)

  it("leaves the folder of a run that is going on", function()
    local _ <close> = cld.io.lock(run)
    is_refused("^demo: a run is going on in .*/runs/demo%-1; wait for its end, or give this one another SEED\n$")
  end)

  it("leaves another one with its seed alone", function()
    local holder = assert(io.popen(("exec 9>%s/demo-1.lock; flock 9; read line"):format(build), "w"))
    repeat until not os.execute(("flock -n %s/demo-1.lock true"):format(build))
    is_refused("^demo: another 'make demo' with SEED=1 is going on in [^\n]*; give this one another SEED\n$")
    holder:close()
  end)

  it("names the program that is missing", function()
    local tools = build .. "/tools"
    os.execute(("mkdir %s && ln -s /usr/bin/* /bin/bash %s 2>/dev/null; rm %s/flock"):format(tools, tools, tools))
    is_refused("^demo: there is no flock here %(Debian: util%-linux%)\n$", tools)
  end)

  it("leaves no half of the toy data to the next one", function()
    os.remove(build .. "/toy-1")
    process.write(build .. "/cldlua", "#!/bin/sh\nmkdir '" .. build .. "/toy-1.new'; exit 1\n")
    assert.equal(2, demo().code)
    assert.is_nil(cld.io.exists(build .. "/toy-1"))
  end)
end)

--- Collectives of CUDA devices among processes, on the host; spec/support/cuda_comm.cu says what each part does.
local process = require "spec.support.process"

local program = process.absolute(process.build .. "/spec/cuda_comm")

local function run(part, ranks, env)
  return process.run { program = program, part, tostring(ranks), env = env,
    unset = { "CLD_HOST_CHIP", "CLD_HOST_PEER_SECONDS" } }
end

local function passes(part, ranks, env)
  local result = run(part, ranks, env)
  assert.equal("", result.err)
  assert.matches("^%d+ checks, 0 failures\n$", result.out)
  assert.equal(0, result.code)
end

local function pass_with(counts, parts, env)
  for _, part in ipairs(parts) do
    for _, ranks in ipairs(counts) do passes(part, ranks, env) end
  end
end

describe("collectives of CUDA devices", function()
  it("begin once the device has joined the job, and leave no shared memory behind", function()
    pass_with({ 1, 2, 3 }, { "start" })
  end)

  it("reduce to sums, largest and smallest values, of every dtype", function() pass_with({ 1, 2, 3 }, { "reduce" }) end)

  it("scale sums of floats, and nothing else", function() pass_with({ 1, 2, 3 }, { "scale" }) end)

  it("take lists of arrays of several dtypes and sizes", function() pass_with({ 1, 2, 3 }, { "lists" }) end)

  it("gather, reduce and scatter, and broadcast from each rank, every dtype", function()
    pass_with({ 1, 2, 3 }, { "move" })
  end)

  it("exchange bytes among neighbours, in a graph too", function() pass_with({ 1, 2, 3 }, { "neighbours" }) end)

  it("make the same bits on all ranks, and each time", function() pass_with({ 2, 3 }, { "bits" }) end)

  it("see what was computed before the fork, and are seen after the join", function()
    pass_with({ 1, 2, 3 }, { "order" })
    pass_with({ 2 }, { "order" }, { CLD_HOST_ORDER = "reverse", CLD_HOST_CACHE = "1" })
  end)

  it("are part of a graph, and of each of its replays", function() pass_with({ 1, 2, 3 }, { "capture" }) end)

  it("end a capture only when they are joined, and begin in one only after a fork", function()
    pass_with({ 1, 2 }, { "unjoined" })
  end)

  it("say so where two ranks have one GPU", function() passes("twice", 2) end)
end)

describe("the specs' own NCCL", function()
  local mistakes = { "collective", "count", "dtype", "kind", "root", "order", "exchange", "graph" }
  for _, what in ipairs(mistakes) do
    it("names both calls where the ranks' differ in " .. what, function() pass_with({ 2, 3 }, { "other_" .. what }) end)
  end

  it("names both ranks of a message that has other sizes for them", function()
    pass_with({ 2, 3 }, { "other_bytes" })
  end)

  it("refuses to capture what has never run, or not with these ranks", function()
    passes("never_run", 2)
    pass_with({ 2, 3 }, { "new_neighbour" })
  end)

  it("waits neither for a rank that has ended nor for ever", function() pass_with({ 2, 3 }, { "ended", "stalled" }) end)
end)

describe("libnccl.so.2", function()
  local finder = process.absolute(process.build .. "/spec/cuda_nccl")

  local function found(env)
    local file = io.open(finder)
    if not file then return pending "this was built without CUDA" end
    file:close()
    local result = process.run { program = finder, env = env, unset = { "VIRTUAL_ENV", "CONDA_PREFIX" } }
    assert.equal(0, result.code)
    return result.out
  end

  local function found_fake(version)
    return found { LD_LIBRARY_PATH = process.absolute(process.build .. "/spec/nccl"), FAKE_NCCL = version }
  end

  it("must be new enough: what was found, where, and what is needed is said", function()
    local where = process.absolute(process.build .. "/spec/nccl/libnccl.so.2")
    local text = "NCCL 2.13 or newer is needed; NCCL %s was found (%s)\n"
    local said = found_fake "21004"
    if not said then return end
    assert.equal(text:format("2.10.4", where), said)
    assert.equal(text:format("2.8.3", where), found_fake "2803")
  end)

  it("must have what is used of it", function()
    local said = found_fake "22703"
    if not said then return end
    assert.matches("spec/nccl/libnccl.so.2 has no nccl%w+: is it NCCL%?\n$", said)
  end)

  it("is found, or what to install is said", function()
    local said = found { LD_LIBRARY_PATH = "" }
    if not said then return end
    local missing = "^a job on several GPUs needs NCCL %(libnccl.so.2%), which was not found: .*nvidia%-nccl%-cu%d"
    assert.is_true((said:find "^found 2%d+: " or said:find(missing)) ~= nil, said)
  end)
end)

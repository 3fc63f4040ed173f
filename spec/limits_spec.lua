--- What `ulimit` and control groups leave to a process: the memory and cores that the program counts on, and what
-- happens at the limit.
local cld = require "cld"
local process = require "spec.support.process"
local core = require "cld.core"

local MiB = 1 << 20

-- The limits in a machine made of files: {path = text}, the folders as needed.
local function limits(files)
  local root = process.temporary_folder()
  for path, text in pairs(files) do
    core.io.mkdir((root .. "/" .. path):match "^(.*)/")
    process.write(root .. "/" .. path, text .. "\n")
  end
  local found = core.system.control_groups(root)
  process.remove(root)
  return found
end

-- Lines of /proc/self/mountinfo.
local function v2_mount(root, point) return ("35 24 0:30 %s %s rw,nosuid - cgroup2 cgroup2 rw"):format(root, point) end
local function v1_mount(root, controllers, point)
  return ("36 31 0:29 %s %s rw,relatime shared:9 master:2 - cgroup cgroup rw,%s"):format(root, point, controllers)
end
local other_mounts = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw\n23 22 0:22 / /proc rw - proc proc rw\n"

-- Version 2 with this process in `group`; `files` lie under /sys/fs/cgroup.
local function v2(group, files, root)
  local all = { ["proc/self/cgroup"] = "0::" .. group,
    ["proc/self/mountinfo"] = other_mounts .. v2_mount(root or "/", "/sys/fs/cgroup") }
  for path, text in pairs(files) do all["sys/fs/cgroup/" .. path] = text end
  return limits(all)
end

-- Version 1, with memory and cpu mounted apart.
local function v1(group, files, root)
  local all = {
    ["proc/self/cgroup"] = ("5:cpuset:/\n4:memory:%s\n3:cpu,cpuacct:%s\n1:name=systemd:/x"):format(group, group),
    ["proc/self/mountinfo"] = other_mounts .. v1_mount(root or "/", "memory", "/sys/fs/cgroup/memory") .. "\n"
      .. v1_mount(root or "/", "cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct"),
  }
  for path, text in pairs(files) do all["sys/fs/cgroup/" .. path] = text end
  return limits(all)
end

describe("the limits of control groups", function()
  it("of version 2 are those of the process's own group", function()
    assert.same({ memory = 300 * MiB, cores = 1.5 },
      v2("/app", { ["app/memory.max"] = 300 * MiB, ["app/cpu.max"] = "150000 100000" }))
  end)

  it("of version 2 are the least of all groups above, whichever level sets it", function()
    assert.same({ memory = 200 * MiB, cores = 0.5 }, v2("/a/b/c", {
      ["a/memory.max"] = 200 * MiB, ["a/b/memory.max"] = "max", ["a/b/c/memory.max"] = 700 * MiB,
      ["a/cpu.max"] = "max 100000", ["a/b/cpu.max"] = "50000 100000", ["a/b/c/cpu.max"] = "400000 100000" }))
    assert.same({ memory = 100 * MiB, cores = 2 }, v2("/a/b", {
      ["memory.max"] = 100 * MiB, ["a/memory.max"] = 200 * MiB, ["cpu.max"] = "200000 100000" }))
  end)

  it("of version 2 take the mark from which a group is slowed", function()
    assert.same({ memory = 64 * MiB },
      v2("/a", { ["a/memory.max"] = 128 * MiB, ["a/memory.high"] = 64 * MiB, ["a/cpu.max"] = "max 100000" }))
  end)

  it("of another group than the process's own, or of one below it, do not count", function()
    assert.same({}, v2("/a", { ["b/memory.max"] = MiB, ["a/c/memory.max"] = MiB, ["ab/cpu.max"] = "1000 100000" }))
  end)

  it("of version 1 are the least of all groups above, memory and cpu each in its own tree", function()
    assert.same({ memory = 200 * MiB, cores = 1.5 }, v1("/a/b", {
      ["memory/a/memory.limit_in_bytes"] = 200 * MiB, ["memory/a/b/memory.limit_in_bytes"] = "9223372036854771712",
      ["memory/memory.limit_in_bytes"] = "9223372036854771712", ["cpu,cpuacct/a/b/cpu.cfs_quota_us"] = 150000,
      ["cpu,cpuacct/a/b/cpu.cfs_period_us"] = 100000, ["cpu,cpuacct/a/cpu.cfs_quota_us"] = 800000,
      ["cpu,cpuacct/a/cpu.cfs_period_us"] = 100000 }))
  end)

  it("of version 1 are none when the files say so", function()
    assert.same({}, v1("/a", {
      ["memory/a/memory.limit_in_bytes"] = "9223372036854771712", ["cpu,cpuacct/a/cpu.cfs_quota_us"] = "-1",
      ["cpu,cpuacct/a/cpu.cfs_period_us"] = 100000 }))
  end)

  it("of a machine with both versions come from either", function()
    assert.same({ memory = 90 * MiB, cores = 3 }, limits {
      ["proc/self/cgroup"] = "4:memory:/m\n0::/u",
      ["proc/self/mountinfo"] = other_mounts .. v1_mount("/", "memory", "/sys/fs/cgroup/memory") .. "\n"
        .. v2_mount("/", "/sys/fs/cgroup/unified"),
      ["sys/fs/cgroup/memory/m/memory.limit_in_bytes"] = 90 * MiB,
      ["sys/fs/cgroup/unified/u/cpu.max"] = "300000 100000",
    })
  end)

  it("are found where the tree is mounted, blanks and all", function()
    assert.same({ memory = 5 * MiB }, limits {
      ["proc/self/cgroup"] = "0::/my group",
      ["proc/self/mountinfo"] = v2_mount("/", "/mnt/control\\040groups"),
      ["mnt/control groups/my group/memory.max"] = 5 * MiB,
    })
  end)

  it("are found in a container that sees its own group as the root", function()
    assert.same({ memory = 40 * MiB, cores = 1 }, v2("/", { ["memory.max"] = 40 * MiB, ["cpu.max"] = "100000 100000" }))
  end)

  it("are found in a container whose mount begins at its group, the path being the host's", function()
    local files = { ["memory/memory.limit_in_bytes"] = 30 * MiB }
    assert.same({ memory = 30 * MiB }, v1("/docker/0a1b", files, "/docker/0a1b"))
    files["memory/x/memory.limit_in_bytes"] = 20 * MiB
    assert.same({ memory = 20 * MiB }, v1("/docker/0a1b/x", files, "/docker/0a1b"))
  end)

  it("are those of the mount's root when the process's group lies outside of it", function()
    for _, group in ipairs { "/..", "/../../x", "/a/../../b" } do
      assert.same({ memory = 40 * MiB }, v2(group, { ["memory.max"] = 40 * MiB }))
    end
    local files = { ["memory/memory.limit_in_bytes"] = 30 * MiB }
    assert.same({ memory = 30 * MiB }, v1("/kubepods/p1", files, "/kubepods/p2"))
    assert.same({ memory = 30 * MiB }, v1("/docker/0a1b2", files, "/docker/0a1b"))
  end)

  it("of a group whose name begins with dots are found", function()
    assert.same({ memory = 10 * MiB }, v2("/..a/b", { ["..a/b/memory.max"] = 10 * MiB, ["memory.max"] = 40 * MiB }))
    assert.same({ memory = 40 * MiB }, v2("/..a/..", { ["..a/../memory.max"] = 40 * MiB }))
  end)

  it("of another mount of the tree, which does not show the process's group, do not count", function()
    assert.same({ memory = 50 * MiB }, limits {
      ["proc/self/cgroup"] = "0::/a",
      ["proc/self/mountinfo"] = v2_mount("/other", "/srv/jail") .. "\n" .. v2_mount("/", "/sys/fs/cgroup"),
      ["sys/fs/cgroup/a/memory.max"] = 50 * MiB,
      ["srv/jail/memory.max"] = MiB,
    })
  end)

  it("are none when files are missing, empty or say something else", function()
    assert.same({}, limits {})
    assert.same({}, limits { ["proc/self/cgroup"] = "0::/a" })
    assert.same({}, limits { ["proc/self/mountinfo"] = v2_mount("/", "/sys/fs/cgroup") })
    assert.same({}, v2("/gone (deleted)", {}))
    assert.same({}, v2("/a", { ["a/memory.max"] = "", ["a/cpu.max"] = "" }))
    assert.same({}, v2("/a", { ["a/memory.max"] = "lots", ["a/cpu.max"] = "100000" }))
    assert.same({}, v2("/a", { ["a/cpu.max"] = "100000 0" }))
    assert.same({}, limits { ["proc/self/cgroup"] = "rubbish\n0\n::\n\n", ["proc/self/mountinfo"] = "x\n - \n1 2 3" })
  end)
end)

describe("usable cores", function()
  local script = "local cld = require 'cld' print(cld.host().cores) cld.set_num_threads(0) print(cld.get_num_threads())"

  it("are at most those that the process may run on", function()
    local result = process.run { "-c", "0", process.cldlua, "-e", script, program = "taskset" }
    assert.equal("1\n1\n", result.out, result.err)
  end)

  it("are at least one, and no more than the control groups' share", function()
    local share = core.system.control_groups().cores or math.huge
    local cores = cld.host().cores
    assert.is_true(cores >= 1 and cores <= math.max(1, math.ceil(share)))
  end)
end)

-- A training step in a shell where `ulimit` leaves so many KiB.
local function step_under(flag, kib, step)
  local script = ("local cld = require 'cld' local size = %s %s"):format(step.size, step.body)
  return process.run { "-c", ('ulimit -c 0; ulimit -%s %d; exec "$0" "$@"'):format(flag, kib), process.cldlua, "-e",
    script, program = "sh", env = { OMP_NUM_THREADS = "2" } }
end

local convolutions = { size = 64, body = [[
  local net = cld.models.resnet18_cifar { low_dim = 128, width = 16 }
  local sgd = cld.optim.sgd(net:parameters(), { lr = 0.1 })
  local f, g = net(cld.randn { size, 3, 32, 32 })
  sgd:step(f:sum() + g:sum())]] }
local small_convolutions = { size = 2, body = convolutions.body }
local products = { size = 1200, body = [[
  local w = cld.randn(size, size):requires_grad_()
  cld.randn(size, size):matmul(w):relu():matmul(w):sum():backward()]] }

local under_sanitizer = process.build:find "asan" ~= nil -- which reserves more addresses than any limit here leaves

describe("a training step under ulimit", function()
  local steps = { convolutions = convolutions, ["small convolutions"] = small_convolutions, products = products }
  for name, step in pairs(steps) do
    for flag, sizes in pairs { v = { 70000, 120000, 190000, 2000000 }, d = { 20000, 60000, 120000, 2000000 } } do
      it(("-%s: %s end well, or with an error that says that memory is short"):format(flag, name), function()
        if under_sanitizer then return end
        local failed, done = 0, 0
        for _, kib in ipairs(sizes) do
          local result = step_under(flag, kib, step)
          if result.code == 0 then
            assert.equal("", result.err)
            done = done + 1
          else
            local where = ("%s KiB: status %d: %s"):format(kib, result.code, result.err)
            assert.equal(1, result.code, where)
            assert.is_truthy(result.err:find "^cldlua: [^\n]*memory"
              or result.err:find "^\n?libgomp: Thread creation failed[^\n]*\n$", where)
            failed = failed + 1
          end
        end
        assert.is_true(failed > 0 and done > 0, ("%d failed, %d done"):format(failed, done))
      end)
    end
  end

  it("-v: tensors stop short of the limit, so that the rest of the process has room", function()
    if under_sanitizer then return end
    local result = process.run { "-c", 'ulimit -v 1000000; exec "$0" "$@"', process.cldlua, "-e",
      "print(require('cld').memory().limit)", program = "sh" }
    local limit = tonumber(result.out)
    assert.is_true(limit > 500 * MiB and limit < 1000000 * 1024 - 200 * MiB, result.out .. result.err)
  end)
end)

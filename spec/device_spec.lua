--- Which devices there are, and the message if one is missing. The backend_* specs test CUDA's kernels.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local process = require "spec.support.process"

-- What the interpreter prints with this CLD_CUDA_PLUGIN.
local function run(plugin, code)
  local result = process.run { "-e", "cld = require 'cld'; " .. code, env = { CLD_CUDA_PLUGIN = plugin } }
  assert.equal("", result.err)
  return result.out
end

describe("devices", function()
  it("the cpu is always there", function()
    assert.equal("cpu", cld.cuda.resolve "cpu")
    local x <close> = cld.zeros(2)
    assert.equal("cpu", x.device)
  end)

  it("names that are none are told apart from devices that are missing", function()
    for _, name in ipairs { "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda0", "cpu:0", "", "cuda:99999999999" } do
      assert.is_false(cld.cuda.is_name(name))
      check.fails(function() cld.zeros(2, { device = name }) end,
        ("there is no device '%s'; expected cpu, cuda or cuda:N"):format(name:gsub("%p", "%%%0")))
    end
    for _, name in ipairs { "cpu", "cuda", "cuda:0", "cuda:7" } do assert.is_true(cld.cuda.is_name(name)) end
  end)

  it("a library that is not there, no library, another program's: a sentence each", function()
    local missing = run("/nowhere/libcld_cuda.so", "print(pcall(cld.zeros, 2, { device = 'cuda' }))")
    assert.matches("device 'cuda': cannot load '/nowhere/libcld_cuda.so'", missing)
    local text = run("README.md", "print(pcall(cld.zeros, 2, { device = 'cuda' }))")
    assert.matches("device 'cuda': cannot load './README.md'", text)
    local other = run(process.build .. "/cld/core.so", "print(pcall(cld.zeros, 2, { device = 'cuda' }))")
    assert.matches("cld/core.so' is not a library of cldlua's devices", other)
  end)

  it("a second library that is missing is looked for where the first was found, before anywhere else", function()
    local folder = process.temporary_folder()
    local function compile(path, code, options)
      process.write(folder .. "/source.c", code)
      assert.is_true(os.execute(("mkdir -p '%s' && cc -shared -fPIC -o '%s' '%s/source.c' %s"):format(
        path:match "^(.*)/", path, folder, options)))
    end
    local function wheel(venv, name)
      return ("%s/%s/lib/python3.9/site-packages/nvidia/x/lib/%s"):format(folder, venv, name)
    end
    local function library(venv, name)
      compile(wheel(venv, name), ('const char *%s(void) { return "%s"; }'):format(name:match "%w+", venv),
        "-Wl,-soname," .. name)
    end
    library("whole", "libfirst.so.1")
    library("whole", "libsecond.so.1")
    library("other", "libsecond.so.1") -- earlier in PATH, but without the first
    for _, venv in ipairs { "other", "whole" } do
      os.execute(("mkdir -p '%s/%s/bin' && touch '%s/%s/bin/python3' && chmod +x '%s/%s/bin/python3'"):format(
        folder, venv, folder, venv, folder, venv))
    end
    compile(folder .. "/plugin.so", [[
      #include "kernels/backend.h"
      const char *libfirst(void), *libsecond(void);
      __attribute__((visibility("default"))) const cld_plugin *cld_plugin_entry(const cld_plugin_host *host) {
        host->fail(CLD_BACKEND, "first of %s, second of %s", libfirst(), libsecond());
        return NULL;
      }]],
      ("-I. -Wl,--no-as-needed '%s' '%s'"):format(wheel("whole", "libfirst.so.1"), wheel("whole", "libsecond.so.1")))
    local result = process.run {
      "-e", "print(pcall(require('cld').zeros, 2, { device = 'cuda' }))",
      env = { CLD_CUDA_PLUGIN = folder .. "/plugin.so", PATH = ("%s/other/bin:%s/whole/bin"):format(folder, folder)
        .. ":/usr/bin:/bin" },
    }
    process.remove(folder)
    assert.matches("first of whole, second of whole", result.out)
  end)

  it("auto is the cpu then, with the reason", function()
    local said = run("/nowhere/libcld_cuda.so", "print(cld.cuda.resolve 'auto')")
    assert.matches("^cpu\tcannot load", said)
    local available = run("/nowhere/libcld_cuda.so", "print(cld.cuda.is_available())")
    assert.matches("^false\tcannot load", available)
    local listed = run("/nowhere/libcld_cuda.so", "local list, why = cld.cuda.devices(); print(#list, why)")
    assert.matches("^0\tcannot load", listed)
  end)
end)

devices.each("what lies on two devices", function(device)
  it("is an error at the user's line, which names both", function()
    local here, there = cld.ones(2, 2), cld.ones(2, 2, { device = device })
    local two = "cpu, .* cuda:0"
    local function fails(f, pattern) check.fails(f, "^spec/device_spec.lua:%d+: " .. pattern) end
    fails(function() return here + there end, "add: .*" .. two)
    fails(function() there.grad = here end, "grad: .*cuda:0, .* cpu")
    fails(function() cld.nn.linear(2, 2):to(device)(here) end, "linear: .*" .. two)
    local bank = cld.losses.memory_bank { size = 2, dim = 2, device = device }
    local index = cld.tensor({ 0, 1 }, "i64")
    fails(function() bank:loss(here, index) end, "memory_bank: features .*" .. two)
    fails(function() bank:loss(there, index) end, "memory_bank: index .*" .. two)
    local queue = cld.losses.moco_queue { size = 2, dim = 2, device = device }
    fails(function() queue:loss(here, here) end, "moco_queue: query .*" .. two)
    fails(function() queue:enqueue(here) end, ".*" .. two)
    fails(function() cld.losses.memory_bank { size = 2, dim = 2, device = "gpu" } end, "there is no device 'gpu'")
  end)
end)

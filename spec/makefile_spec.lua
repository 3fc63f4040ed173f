--- The Makefile's targets: what they name is there, even for those that the specs do not run.
local process = require "spec.support.process"

local function output(command)
  local pipe = io.popen("unset MAKEFLAGS MFLAGS MAKELEVEL; { " .. command .. "; } 2>&1")
  local text = pipe:read "a"
  return text, pipe:close()
end

describe("the Makefile", function()
  local sources = "find runtime bindings kernels spec -name '*.[ch]' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh'"

  -- make runs a line that names $(MAKE) even if it is asked only to print it. cuda-report needs a build with CUDA.
  local left_out = { "asan", "clean", "deb", "demo-check", "package-check", "setup", "cuda-report" }

  it("finds everything that its targets need", function()
    local targets = {}
    local whole_lines = output "cat Makefile spec/*.mk spec/*/*.mk bindings/package/*.mk | sed -z 's/\\\\\\n//g'"
    for line in whole_lines:gmatch "[^\n]+" do
      for target in (line:match "^%.PHONY:(.*)" or ""):gmatch "%S+" do
        if target:find "^[%w-]+$" then targets[target] = true end
      end
    end
    assert.is_true(targets.all and targets["bench-decode"] and targets.fuzz)
    for _, target in ipairs(left_out) do targets[target] = nil end
    local names = {}
    for target in pairs(targets) do names[#names + 1] = target end
    local said, made = output(("make -n -k BUILD='%s' %s"):format(process.build, table.concat(names, " ")))
    assert.is_true(made, said:match "[^\n]*No rule[^\n]*" or said:sub(-500))
  end)

  it("includes only headers that are there", function()
    local missing = {}
    for line in output(sources .. " | xargs grep '^#include \"'"):gmatch "[^\n]+" do
      local path, header = line:match '^([^:]+):#include "([^"]+)"'
      local beside = path:gsub("[^/]*$", "") .. header
      if header ~= "version.h" and not io.open(header) and not io.open(beside) then missing[#missing + 1] = line end
    end
    assert.same({}, missing)
  end)

  it("packs for luarocks all that is needed to build", function()
    local folder = process.temporary_folder()
    local said, made = output(("make -s rock BUILD='%s' && tar -xzf '%s'/package/cldlua-*.tar.gz -C '%s' && "
      .. "make -n -C '%s'/cldlua-* all"):format(process.build, process.build, folder, folder))
    process.remove(folder)
    assert.is_true(made, said:sub(-500))
  end)
end)

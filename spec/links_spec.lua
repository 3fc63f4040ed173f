--- The links between the repository's pages have a target.
local process = require "spec.support.process"

local folders = "README.md .ci bindings kernels lua recipes runtime spec"

describe("the links of", function()
  local pipe = assert(io.popen("find " .. folders .. " -name '*.md' | sort"))
  local pages = pipe:read "a"
  pipe:close()

  for page in pages:gmatch "[^\n]+" do
    it(page, function()
      local missing = {}
      for link in process.read(page):gmatch "%]%(([^)#]+)" do
        local path = (page:match "^.*/" or "") .. link
        local file = not link:find "^%a+:" and io.open(path)
        if file then file:close() elseif not link:find "^%a+:" then missing[#missing + 1] = link end
      end
      assert.same({}, missing)
    end)
  end
end)

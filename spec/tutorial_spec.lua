--- The pages of recipes/tutorial: every block is run, in its own folder, and prints what the page shows.
--
-- sh runs a block ```sh. A block ```lua whose first line is a comment with a file's name is saved as that file; any
-- other is run. A block ```text is what the block before it prints. Numbers may differ, and so may the toy images'
-- textures and kinds of file, and what `...` stands for.
local process = require "spec.support.process"

local pages = { "1-first-run", "2-your-own-images", "3-your-own-loss", "4-your-own-data-set" }

-- A list of {kind = "sh"|"lua"|"text", text =, line =}.
local function blocks_of(path)
  local blocks, block, number = {}, nil, 0
  for line in io.lines(path) do
    number = number + 1
    local fence = line:match "^```(%a*)"
    if block and fence then
      blocks[#blocks + 1], block = block, nil
    elseif fence then
      block = { kind = fence, text = "", line = number }
    elseif block then
      block.text = block.text .. line .. "\n"
    end
  end
  assert(not block, path .. ": a block has no end")
  return blocks
end

-- A line without what may differ: numbers, a toy image's texture and kind of file; and with single spaces.
local textures = { "bricks", "checks", "clouds", "columns", "diagonals", "dots", "lattice", "rings", "rows", "zigzag" }
local function loose(line)
  for _, texture in ipairs(textures) do line = line:gsub("%f[%a]" .. texture .. "%f[%A]", "TEXTURE") end
  return (line:gsub("%.png", ".jpg"):gsub("%-?%d[%d.:]*", "N"):gsub("%s+", " "))
end

-- The first line of `shown` that does not follow in `printed` after those before it; nil if all do.
local function missing(shown, printed)
  local position = 1
  local lines = {}
  for line in printed:gmatch "[^\n]+" do lines[#lines + 1] = loose(line) end
  for line in shown:gmatch "[^\n]+" do
    local wanted = loose(line)
    local pattern = wanted:gsub("%p", "%%%0"):gsub("%%%.%%%.%%%.", ".*")
    if wanted:gsub(" ", "") ~= "..." then
      local found
      for i = position, #lines do
        if lines[i]:find("^" .. pattern .. "$") then found = i break end
      end
      if not found then return line end
      position = found + 1
    end
  end
end

local function run(block, folder)
  local file = block.text:match "^%-%- ([%w_]+%.lua)\n"
  if block.kind == "lua" and file then
    process.write(folder .. "/" .. file, block.text)
    return { code = 0, out = "", err = "" }
  end
  local env = { PATH = folder .. "/bin:" .. os.getenv "PATH", LUA_PATH = "./?.lua;;", OMP_NUM_THREADS = "1" }
  if block.kind == "sh" then
    return process.run { "-e", program = "sh", stdin = block.text, directory = folder, env = env }
  end
  return process.run { "-", stdin = block.text, directory = folder, env = env,
    program = process.absolute(process.cldlua) }
end

for _, name in ipairs(pages) do
  local path = "recipes/tutorial/" .. name .. ".md"

  describe(path, function()
    local folder
    local failures, unlike, seen = {}, {}, { sh = 0, lua = 0, text = 0 }

    lazy_setup(function()
      folder = process.temporary_folder()
      os.execute(("mkdir %s/bin && ln -s '%s' %s/bin/cldlua && ln -s \"$PWD/recipes\" %s/recipes"):format(folder,
        process.absolute(process.cldlua), folder, folder))
      local printed = ""
      for _, block in ipairs(blocks_of(path)) do
        seen[block.kind] = (seen[block.kind] or 0) + 1
        if block.kind == "text" then
          local line = missing(block.text, printed)
          if line then
            unlike[#unlike + 1] = ("%s:%d: '%s' is not among\n%s"):format(path, block.line, line, printed)
          end
        else
          local result = run(block, folder)
          printed = result.out
          if result.code ~= 0 then failures[#failures + 1] = ("%s:%d: %s"):format(path, block.line, result.err) end
        end
      end
    end)
    lazy_teardown(function() process.remove(folder) end)

    it("has commands, Lua, and what they print", function()
      assert.is_true(seen.sh > 0 and seen.lua > 0 and seen.text > 0)
    end)

    it("has no block of another kind", function()
      for kind in pairs(seen) do assert.matches("^[slt][hue][ax]?t?$", kind) end
    end)

    it("runs as it stands", function() assert.equal("", table.concat(failures, "\n")) end)

    it("shows what is printed", function() assert.equal("", table.concat(unlike, "\n")) end)
  end)
end

describe("the tutorial", function()
  it("has the pages that its README lists, and no others", function()
    local linked, files = {}, {}
    for file in process.read("recipes/tutorial/README.md"):gmatch "%]%(([%w-]+)%.md%)" do linked[#linked + 1] = file end
    assert.same(pages, linked)
    for file in io.popen("ls recipes/tutorial"):lines() do
      if file ~= "README.md" then files[#files + 1] = file:gsub("%.md$", "") end
    end
    assert.same(pages, files)
  end)
end)

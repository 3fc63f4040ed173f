--- Runs every example of help's texts and topics, in the folder where it is started: cldlua help_examples.lua FILE.
-- Writes to FILE, as JSON, the number of examples that ran and a list of {name, problem}: {ran =, failed =}. If an
-- example has `--> value` comments, its output is compared with them, in order. An example whose first line is `--
-- needs ...` is only compiled.
local cld = require "cld"
local data = require "cld.help.data"

local function spaced(text) return (text:gsub("%s+", " "):match "^%s*(.-)%s*$") end

-- {name, code} of all examples.
local function all()
  local list = {}
  for _, entry in ipairs(data().entries) do
    if entry.example then list[#list + 1] = { entry.name, entry.example } end
  end
  for _, topic in ipairs(data().topics) do
    for i, block in ipairs(require "cld.help.topic".blocks(topic.text)) do
      if block.code and not block.code:find "^%$ " then
        list[#list + 1] = { ("%s, block %d"):format(topic.name, i), block.code }
      end
    end
  end
  return list
end

local function expected_of(code)
  local expected = {}
  for value in code:gmatch "%-%->%s*([^\n]*)" do expected[#expected + 1] = spaced(value) end
  return expected
end

-- What is wrong with the example, or nil; and whether it ran.
local function run(name, code)
  local printed = {}
  local env = setmetatable({ cld = cld, print = function(...)
    local words = table.pack(...)
    for i = 1, words.n do words[i] = tostring(words[i]) end
    printed[#printed + 1] = spaced(table.concat(words, "\t"))
  end }, { __index = _G })
  local f, problem = load(code, "=" .. name, "t", env)
  if not f then return problem, false end
  if code:find "^%-%- needs " then return nil, false end
  cld.manual_seed(1)
  local ok, message = pcall(f)
  if not ok then return tostring(message), true end
  local expected = expected_of(code)
  if #expected == 0 then return nil, true end
  local got, wanted = table.concat(printed, "\n"), table.concat(expected, "\n")
  return got ~= wanted and ("printed\n%s\nand not\n%s"):format(got, wanted) or nil, true
end

local result = { ran = 0, failed = {} }
for _, example in ipairs(all()) do
  local problem, ran = run(example[1], example[2])
  if ran then result.ran = result.ran + 1 end
  if problem then result.failed[#result.failed + 1] = { example[1], problem } end
end
cld.io.write_atomic((...), cld.json.encode(result))

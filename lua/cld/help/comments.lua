--- Reads the texts of help from sources: every comment that opens with three dashes and a public name.
--
-- In Lua:
--   --- cld.nn.linear(in_features, out_features[, {bias = true}]) -> module: what it does, in sentences that
--   -- go on here.
--   --
--   --     local layer = cld.nn.linear(2, 3)          -- an example: lines indented by four, after an empty one
--   --     print(#layer:parameters())                 --> 2
--
-- and in C the same between /* and */. Names are public ones: cld.x, cld.module.x, x:method or x.property of a tensor,
-- kind:method or kind.property of another object. A Lua comment that begins with no such name is about the function on
-- the line below it: `function optim.ema(...)` of lua/cld/optim.lua is cld.optim.ema. Several may share a text:
-- "cld.a(x), cld.b(x) -> tensor: ...". The result is a list of
--   {name, signature, text, example or nil, file, line}
-- A bare name in C stays "?.name": collect.lua finds the table that has it.
-- line: the function's in Lua, the comment's in C. text: paragraphs separated by empty lines; a line that begins
-- with two spaces is kept as a line.
local comments = {}

-- ---- parsing a comment ------------------------------------------------------------------------------------------

-- One name with its arguments at `at`: name, "name(args)", the position after it.
local function read_call(text, at)
  local name, after = text:match("^([%a_][%w_.:]*[%w_])()", at)
  if not name then return nil end
  local arguments, last = text:match("^(%b())()", after)
  if not arguments then arguments, last = text:match("^ ?(%b{})()", after) end
  if not arguments then return name, name, after end
  return name, name .. arguments, last
end

-- The end of a result: the first ": " outside of brackets, the end of the sentence, or the next call.
local function end_of_result(text, at)
  local depth = 0
  for i = at, #text do
    local c = text:sub(i, i)
    if c:find "[({%[]" then depth = depth + 1 elseif c:find "[)}%]]" then depth = depth - 1 end
    if depth == 0 and (text:find("^: ", i) or text:find("^%. ", i) or text:find("^[:.]$", i)) then return i end
    if depth == 0 and text:find("^, [%a_]+[.:][%w_.]+ ?[({]", i) then return i end
  end
  return #text + 1
end

-- "a(x), b(x) -> result: rest" as {{name, "a(x) -> result"}, ...} and the rest; nil if it does not begin with names.
local function read_signatures(text)
  local calls, at = {}, 1
  while true do
    local name, call, after = read_call(text, at)
    if not name or not (name:find "[.:]" or call ~= name) then break end
    local result = ""
    at = after
    if text:find("^ %->", at) then
      local stop = end_of_result(text, at)
      result, at = text:sub(at, stop - 1), stop
    end
    calls[#calls + 1] = { name, call, result }
    local next_one = text:match("^, ()", at)
    if not next_one then break end
    at = next_one
  end
  if #calls == 0 or at <= #text and not text:find("^[:.]", at) then return nil end
  local result = ""
  for i = #calls, 1, -1 do -- a call without a result has the next one's
    if calls[i][3] ~= "" then result = calls[i][3] end
    calls[i][2] = calls[i][2] .. result
  end
  local rest = text:sub(at):gsub("^[:.,]?%s*", "")
  if rest == "" and result ~= "" then -- "a() -> what it gives." is the whole text
    rest = result:gsub("^ %->%s*", "")
    for _, call in ipairs(calls) do call[2] = call[2]:sub(1, -#result - 1) end
  end
  return calls, rest
end

-- Splits the lines of a comment, without their comment marks, into text and example.
local function split_example(lines)
  local example
  for i = 2, #lines do
    if lines[i - 1] == "" and lines[i]:find "^    %S" then
      local last = i
      while lines[last + 1] and (lines[last + 1] == "" or lines[last + 1]:find "^    ") do last = last + 1 end
      local code = {}
      for k = i, last do code[#code + 1] = lines[k]:sub(5) end
      example = table.concat(code, "\n"):gsub("%s+$", "")
      local text = table.move(lines, 1, i - 2, 1, {})
      for k = last + 1, #lines do text[#text + 1] = lines[k] end
      return text, example
    end
  end
  return lines
end

-- Joins the lines of each paragraph; empty lines, and lines that begin with two spaces, stay.
local function joined(lines)
  local paragraphs, current = {}, nil
  for _, line in ipairs(lines) do
    if line == "" then
      current = nil
      if #paragraphs > 0 then paragraphs[#paragraphs + 1] = "" end
    elseif line:find "^  " then
      paragraphs[#paragraphs + 1], current = line, nil
    elseif current then
      paragraphs[current] = paragraphs[current] .. " " .. line
    else
      paragraphs[#paragraphs + 1] = line
      current = #paragraphs
    end
  end
  while paragraphs[#paragraphs] == "" do paragraphs[#paragraphs] = nil end
  return table.concat(paragraphs, "\n")
end

-- Entries of one comment. below: {name, call} of the function below it, or nil. prefix: what completes names that are
-- not full.
local function entries_of(lines, file, line, below, prefix)
  local text_lines, example = split_example(lines)
  local text = joined(text_lines)
  local calls, rest = read_signatures(text)
  if not calls then
    if not below then return {} end
    calls, rest = { below }, text
  end
  local entries, by_name = {}, {}
  for _, call in ipairs(calls) do
    local name, signature = call[1], call[2]
    if not name:find "[.:]" then
      local own = below and below[1]:match "[^.:]+$" == name and below[1] or prefix .. "." .. name
      if prefix:match "[^.]+$" == name then own = prefix end -- lua/cld/graph.lua is the function cld.graph
      name, signature = own, own .. signature:sub(#name + 1)
    end
    if by_name[name] then
      by_name[name].signature = by_name[name].signature .. "\n" .. signature
    else
      local entry = { name = name, signature = signature, text = rest, example = example, file = file, line = line }
      entries[#entries + 1], by_name[name] = entry, entry
    end
  end
  return entries
end

-- ---- Lua ------------------------------------------------------------------------------------------------------

-- The public name of the table that holds a file's public functions.
local function namespace(file)
  local path = file:match "lua/(cld/.*)%.lua$" or "cld"
  if path == "cld/init" then return "cld" end
  if path == "cld/nn/init" then return "cld.nn.init" end
  return (path:match "^cld/[^/]+" or path):gsub("/", ".")
end

-- The name of a class's objects in help, for a class of that name in any file, or in one file.
local KINDS = {
  Module = "module", List = "module_list", ["augment.List"] = "augmentation", MemoryBank = "memory_bank",
  MocoQueue = "moco_queue", InfoMin = "net", ["losses.InfoMin"] = "infomin_loss", Dataset = "dataset",
  Loader = "loader", Run = "run", Parts = "over_parts", Probe = "linear_probe", Tuning = "finetuning",
  ResNet = "net", Trunk = "net", Encoder = "net", Classifier = "net",
}

-- "function Module:to(where)" -> {"module:to", "module:to(where)"}
local function named_below(line, file)
  local owner, separator, name, arguments = line:match "^function ([%w_]+)([.:])([%w_]+)(%b())"
  if not owner then
    owner, separator, name = line:match "^([%w_]+)(%.)([%w_]+)[%w_, .]* ="
    arguments = ""
  end
  if not owner then return nil end
  local prefix = namespace(file)
  if owner:find "^%u" then
    prefix = KINDS[prefix:match "[^.]*$" .. "." .. owner] or KINDS[owner]
    if not prefix then return nil end
    separator = arguments == "" and "." or ":"
  end
  return { prefix .. separator .. name, prefix .. separator .. name .. arguments }
end

--- Entries of a Lua file's text; the file's name determines the table.
function comments.of_lua(source, file)
  local entries, lines, number = {}, {}, 0
  for line in (source .. "\n"):gmatch "(.-)\n" do lines[#lines + 1] = line end
  while number < #lines do
    number = number + 1
    local first = lines[number]:match "^%s*%-%-%- ?(.*)$"
    if first then
      local start, block = number, { first }
      while lines[number + 1] and lines[number + 1]:find "^%s*%-%-" and not lines[number + 1]:find "^%s*%-%-%-" do
        number = number + 1
        block[#block + 1] = lines[number]:match "^%s*%-%- ?(.*)$"
      end
      local prefix = namespace(file)
      local below = start == 1 and { prefix, prefix } or named_below(lines[number + 1] or "", file)
      local found = entries_of(block, file, start == 1 and 1 or number + 1, below, prefix)
      table.move(found, 1, #found, #entries + 1, entries)
    end
  end
  return entries
end

-- ---- C ----------------------------------------------------------------------------------------------------------

--- Entries of a C file's text.
function comments.of_c(source, file)
  local entries = {}
  for at, body in source:gmatch "()/%*%s%-%-%-%s(.-)%s*%*/" do
    local _, line = source:sub(1, at):gsub("\n", "")
    local lines = {}
    for text in (body .. "\n"):gmatch "(.-)\n" do
      lines[#lines + 1] = #lines == 0 and text or text:gsub("^%s*%*? ?", "", 1)
    end
    for i = 1, #lines do lines[i] = lines[i]:gsub("%s+$", "") end
    for _, entry in ipairs(entries_of(lines, file, line + 1, nil, "?")) do entries[#entries + 1] = entry end
  end
  return entries
end

-- The tables of cld that comments may name without "cld.".
local core_tables = { nn = true, losses = true, optim = true, data = true, models = true, eval = true }

--- All entries of these files, with "x:sum" as "tensor:sum".
function comments.of_files(files)
  local all = {}
  for _, file in ipairs(files) do
    local handle = assert(io.open(file))
    local source = handle:read "a"
    handle:close()
    local entries = file:find "%.lua$" and comments.of_lua(source, file) or comments.of_c(source, file)
    for _, entry in ipairs(entries) do
      local name = entry.name:gsub("^x([.:])", "tensor%1"):gsub("^functional%.", "nn.functional.")
      if name:find "^%l+%." and core_tables[name:match "^%l+"] then name = "cld." .. name end
      if name:find "^cld%." and name ~= entry.name then
        entry.signature = name .. entry.signature:sub(#entry.name + 1)
      end
      entry.name = name
      all[#all + 1] = entry
    end
  end
  return all
end

return comments

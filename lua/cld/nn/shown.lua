--- Modules as text. tostring(net) is one screen: a line for each child with its class, shapes and number of parameters,
-- equal entries of a list folded, the totals at the end. net:summary() is the whole tree.
--
--   resnet(2048 features, head mlp: instance, group) {
--     conv1     conv2d(3 -> 64, 7x7, stride 2, padding 3, no bias)      9,408
--     layer1    3 x bottleneck(64 -> 256, ...)                        215,808
--     ...
--   }
--   28,228,928 parameters in 165 tensors, 112.9 MB; f32 on cpu
--
-- The brackets hold the class's `extra_repr` (PyTorch's name); without one, a list of the module's parts.
local core = require "cld.core"
local caller = require "cld.caller"
local modules = require "cld.nn.module"
local Module, members_of, is_module = modules.base, modules.members_of, modules.is_module

local ROWS = 32   -- children on one screen
local INSIDE = 60 -- characters for the list of a module's parts

--- The text in brackets after the class's name: "" for none. For a class to override; self's fields are set.
function Module.extra_repr() return "" end

-- ---- numbers -----------------------------------------------------------------

local function grouped(number)
  local text = ("%d"):format(number)
  return (text:reverse():gsub("%d%d%d", "%0,"):reverse():gsub("^,", ""))
end

local units = { "B", "kB", "MB", "GB", "TB" }

local function size_shown(bytes)
  local unit = 1
  while bytes >= 1000 and unit < #units do bytes, unit = bytes / 1000, unit + 1 end
  return (unit == 1 and "%d %s" or "%.1f %s"):format(bytes, units[unit])
end

local function numel(tensors)
  local total = 0
  for _, tensor in ipairs(tensors) do total = total + tensor:numel() end
  return total
end

local function parameters_of(value)
  if is_module(value) then return Module.parameters(value) end
  return { value }
end

-- ---- one module in one line ----------------------------------------------------

-- {name, value, kind} of the children and tensors, in order.
local function members(self)
  local of, list = members_of(self), {}
  for _, name in ipairs(of.names) do
    local kind = of.kinds[name]
    if kind then list[#list + 1] = { name = name, value = of.fields[name], kind = kind } end
  end
  return list
end

local line

-- extra_repr may fail if a layer's tensors were replaced: then its members describe it.
local function facts_of(self)
  local ok, facts = pcall(self.extra_repr, self)
  return ok and type(facts) == "string" and facts or ""
end

local function with_facts(self, facts) return facts == "" and self._name or ("%s(%s)"):format(self._name, facts) end

-- "3 x bottleneck(64 -> 256, ...)" for several children, all of one class; else nil.
local function alike(children)
  if #children < 2 or children[1].kind ~= "module" then return nil end
  local first, same = children[1].value, true
  local facts = facts_of(first)
  for _, child in ipairs(children) do
    if child.kind ~= "module" or child.value._name ~= first._name then return nil end
    same = same and facts_of(child.value) == facts
  end
  if not same then facts = facts .. ", ..." end
  return ("%d x %s"):format(#children, facts == "" and line(first) or with_facts(first, facts))
end

local function made_of(list)
  local texts = {}
  for i, member in ipairs(list) do
    texts[i] = member.kind == "module" and line(member.value)
      or ("%s %s"):format(member.name, caller.shown(member.value))
  end
  local text = table.concat(texts, ", ")
  if #text <= INSIDE then return text end
  return ("%d members"):format(#list)
end

function line(self)
  local facts, list = facts_of(self), members(self)
  if facts ~= "" or #list == 0 then return with_facts(self, facts) end
  local same = alike(list)
  if not same then return with_facts(self, made_of(list)) end
  return members_of(self).class.is_list and same or with_facts(self, same)
end

-- ---- a screen -------------------------------------------------------------------

local function row_of(member)
  local text = member.kind == "module" and line(member.value)
    or ("%s %s"):format(member.kind, caller.shown(member.value))
  local count = member.kind ~= "buffer" and numel(parameters_of(member.value)) or 0
  return { name = member.name, text = text, count = count, times = 1 }
end

local function is_list(self) return members_of(self).class.is_list end

-- The rows of self. Adjacent entries of a list with the same text become one.
local function folded(self)
  local rows, folds = {}, is_list(self)
  for _, member in ipairs(members(self)) do
    local row, last = row_of(member), rows[#rows]
    if folds and last and member.kind == "module" and last.text == row.text and last.each == row.count then
      last.times, last.last, last.count = last.times + 1, row.name, last.count + row.count
    else
      row.each = row.count
      rows[#rows + 1] = row
    end
  end
  for _, row in ipairs(rows) do
    if row.times > 1 then
      row.name, row.text = ("%s - %s"):format(row.name, row.last), ("%d x %s"):format(row.times, row.text)
    end
  end
  return rows
end

-- Columns: name, text, number of parameters.
local function aligned(rows, indent)
  local widths = { name = 0, text = 0, count = 0 }
  for _, row in ipairs(rows) do
    row.shown = row.count > 0 and grouped(row.count) or ""
    widths.name, widths.text = math.max(widths.name, #row.name), math.max(widths.text, #row.text)
    widths.count = math.max(widths.count, #row.shown)
  end
  local format = ("%s%%-%ds  %%-%ds  %%%ds"):format(indent, widths.name, widths.text, widths.count)
  local lines = {}
  for i, row in ipairs(rows) do lines[i] = (format:format(row.name, row.text, row.shown):gsub("%s+$", "")) end
  return lines
end

-- "f32 on cpu": the dtypes and devices of all tensors.
local function kinds_of(list)
  local names, seen = { dtype = {}, device = {} }, {}
  for _, tensor in ipairs(list) do
    for field, found in pairs(names) do
      local value = tensor[field]
      if not seen[value] then
        seen[value] = true
        found[#found + 1] = value
      end
    end
  end
  return ("%s on %s"):format(table.concat(names.dtype, " and "), table.concat(names.device, " and "))
end

local element_sizes = { f64 = 8, f32 = 4, bf16 = 2, f16 = 2 } -- the dtypes of a parameter

local function bytes_of(list)
  local total = 0
  for _, tensor in ipairs(list) do total = total + tensor:numel() * element_sizes[tensor.dtype] end
  return total
end

local function totals(self)
  local list = Module.parameters(self)
  if #list == 0 then return "no parameters" end
  local frozen = {}
  for _, parameter in ipairs(list) do
    if not parameter.requires_grad then frozen[#frozen + 1] = parameter end
  end
  return ("%s parameters in %d %s%s, %s; %s%s"):format(grouped(numel(list)), #list,
    #list == 1 and "tensor" or "tensors",
    #frozen > 0 and (" (%s frozen)"):format(grouped(numel(frozen))) or "", size_shown(bytes_of(list)),
    kinds_of(list), self.training and "" or ", in evaluation mode")
end

function Module:__tostring()
  local _ <close> = core.text.c_locale()
  local list, children = members(self), #Module.children(self)
  if children == 0 then
    return #list == 0 and line(self) or ("%s: %s"):format(line(self), totals(self))
  end
  local rows, left_out = folded(self), 0
  if #rows > ROWS then
    left_out = #rows - ROWS + 1
    rows = table.move(rows, 1, ROWS - 1, 1, {})
  end
  local lines = aligned(rows, "  ")
  table.insert(lines, 1, with_facts(self, facts_of(self)) .. " {")
  if left_out > 0 then lines[#lines + 1] = ("  ... %d more"):format(left_out) end
  lines[#lines + 1] = "}"
  lines[#lines + 1] = totals(self)
  return table.concat(lines, "\n")
end

-- ---- the whole tree ---------------------------------------------------------------

-- The rows of all modules below self; equal entries of a list once, as "0 - 5".
local function tree(self, depth, rows)
  local before
  local folds, indent = is_list(self), ("  "):rep(depth)
  for _, member in ipairs(members(self)) do
    local row, below = row_of(member), {}
    if member.kind == "module" then
      if #members(member.value) > 0 and Module.children(member.value)[1] then
        row.text = with_facts(member.value, facts_of(member.value))
        tree(member.value, depth + 1, below)
      end
    end
    local parts = { row.text, tostring(row.count) }
    for _, inner in ipairs(below) do parts[#parts + 1] = inner.name .. inner.text end
    local key = table.concat(parts, "\n")
    if folds and before and before.key == key and member.kind == "module" then
      local first = before.row
      before.times = before.times + 1
      first.name = ("%s%s - %s"):format(indent, before.name, member.name)
      first.text, first.count = ("%d x %s"):format(before.times, row.text), first.count + row.count
    else
      before = { key = key, row = row, name = member.name, times = 1 }
      row.name = indent .. row.name
      rows[#rows + 1] = row
      table.move(below, 1, #below, #rows + 1, rows)
    end
  end
  return rows
end

--- module:summary() -> text: the whole tree: every module below this one with its shapes and number of parameters,
-- equal entries of a list once; totals at the end. print(net) is shorter.
function Module:summary()
  local _ <close> = core.text.c_locale()
  local lines = aligned(tree(self, 0, {}), "  ")
  table.insert(lines, 1, with_facts(self, facts_of(self)))
  lines[#lines + 1] = totals(self)
  return table.concat(lines, "\n")
end

return Module

--- Modules in a row: sequential runs them one after the other, module_list only holds them. Children are named "0",
-- "1", ... as in PyTorch; in Lua they are seq[1] to seq[#seq].
local caller = require "cld.caller"
local modules = require "cld.nn.module"
local scope = require "cld.nn.scope"
local raise, Module = caller.raise, modules.base

-- ---- a list of modules ------------------------------------------------------

local List = modules.class "list"
List.is_list = true

-- The entries of f(a, b, ...) or f{a, b, ...}, and their number.
local function entries(name, ...)
  local list, count = { ... }, select("#", ...)
  if count ~= 1 or type(list[1]) ~= "table" or getmetatable(list[1]) then return list, count end
  list, count = list[1], 0
  for key in next, list do
    if math.type(key) ~= "integer" or key < 1 then
      raise("%s: entries have positions, not names; got %s", name, caller.shown(key))
    end
    count = math.max(count, key)
  end
  return list, count
end

function List:build(...)
  local list, count = entries(self._name, ...)
  for i = 1, count do self[i] = list[i] end
end

-- The fields hold every child twice: under its position and under its name.
function List:__len() return rawlen(modules.members_of(self).fields) end

function List:__newindex(key, value)
  local position = math.type(key) == "integer" and key
    or type(key) == "string" and key:find "^%d+$" and tonumber(key) + 1
  if not position then return Module.__newindex(self, key, value) end
  if position < 1 or position > #self + 1 then
    raise("%s: entry %d cannot be set; there are %d", self._name, position, #self)
  end
  local child = self:accept(value)
  if not modules.is_module(child) then
    raise("%s: entry %d is %s; expected a module", self._name, position, caller.shown(value))
  end
  Module.__newindex(self, ("%d"):format(position - 1), child)
  modules.members_of(self).fields[position] = child
end

function List.accept(_, value) return value end

--- module_list:append(module) -> module_list: adds a module at the end.
function List:append(value)
  self[#self + 1] = value
  return self
end

-- ---- module_list and sequential ---------------------------------------------

--- cld.nn.module_list(a, b, ...) -> module, cld.nn.module_list{a, b, ...} -> module: holds modules that forward calls
-- itself; #, ipairs and list[i] work.
local ModuleList = modules.class("module_list", List)

local Lambda = modules.class "lambda"
function Lambda:build(f) self.f = f end
function Lambda:forward(...) return caller.user(self.f, ...) end

--- cld.nn.sequential(a, b, ...) -> module, cld.nn.sequential{a, b, ...} -> module: calls each module on the output of
-- the previous one; a function counts as a module without weights. seq[1] to seq[#seq] are its modules; their names in
-- a state_dict are "0", "1", ... as in PyTorch.
--
--     local net = cld.nn.sequential(cld.nn.linear(4, 8), cld.nn.relu(), cld.nn.linear(8, 2))
--     print(net(cld.ones(3, 4)).shape[2], #net)        --> 2 3
local Sequential = modules.class("sequential", List)

function Sequential.accept(_, value) return type(value) == "function" and Lambda(value) or value end

function Sequential:forward(x) return (scope.chain(x, self)) end

scope.transient(Sequential)

return { sequential = Sequential, module_list = ModuleList }

--- Hints for errors from Python's syntax, with what to write in Lua: "attempt to call a nil value (global 'len'); in
-- Lua it is #x".
local find, match = string.find, string.match
local ipairs = ipairs

local python = {}

local names = {
  None = "nil", True = "true", False = "false", len = "#x", range = "for i = 1, n do ... end",
  enumerate = "for i, x in ipairs(list) do ... end", exit = "os.exit(), or Ctrl-D", quit = "os.exit(), or Ctrl-D",
  dir = "help(x)", str = "tostring(x)", int = "math.floor(x)", float = "tonumber(x)", abs = "math.abs(x)",
  max = "math.max(a, b)", min = "math.min(a, b)", sorted = "table.sort(list)", isinstance = "cld.is_tensor(x), type(x)",
  open = "io.open(path)",
}
local modules = { torch = true, np = true, numpy = true, torchvision = true }

-- {pattern of the message, pattern of the text, what Lua has}. The first that fits is used. Lua code cannot begin with
-- those that fit any message, so no further line can complete it.
local forms = {
  { "", "^%s*import%s+[%a_]", 'local json = require "json"; cld is there already' },
  { "", "^%s*from%s+[%w_.]+%s+import%s", 'local json = require "json"; cld is there already' },
  { "", "^%s*def%s+[%w_]+%s*%(", "function f(x) ... end" },
  { "", "^%s*class%s+[%w_]+%s*[%(:]", 'local Net = cld.nn.module "Net"' },
  { "", "[=%(,]%s*lambda[%w_, ]*:", "function(x) return ... end" },
  { "", "^%s*with%s+[%w_.]+%s*%(.*:", "cld.no_grad(function() ... end)" },
  { "", "^%s*for%s[^:\n]*:%s*$", "for i = 1, n do ... end, or for i, x in ipairs(list) do ... end" },
  { "", "^%s*elif%s", "elseif x then" },
  { "", "^%s*if%s[^:\n]*:%s", "if x then ... end" },
  { "", "^%s*if%s[^:\n]*:$", "if x then ... end" },
  { "", "^%s*while%s[^:\n]*:%s*$", "while x do ... end" },
  { "near '!'", "!=", "x ~= y" },
  { "near '%*'", "%*%*", "x ^ 2" },
  { "near '[-+*/]'", "[-+*/]=", "x = x + 1" },
  { "near '@'", "@", "x:matmul(y)" },
  { "near '%['", "%[", "{1, 2, 3}" },
  { "'%]' expected near '[,:]'", "%[", 'x[{i, j}], x[{ {first, last} }]; help "indexing"' },
  { "'%)' expected near '='", "=", "f(x, {name = value})" },
  { "'%)' expected near ','", "%(%(", "{2, 3}" },
  { "near '#'", "#", "-- before a comment" },
}

local function hint(text) return "; in Lua it is " .. text end

--- The hint for code that is not Lua, from the text and Lua's message; "" if there is none. The second result is true
-- if no further lines can make it valid Lua.
function python.of_code(text, message)
  for _, form in ipairs(forms) do
    if find(message, form[1]) and find(text, form[2]) then return hint(form[3]), form[1] == "" end
  end
  return "", false
end

--- The hint for an error in running code; "" if there is none.
function python.of_error(message)
  local name = match(message, "attempt to %w+ a nil value %(global '([%w_]+)'%)$")
  if name and names[name] then return hint(names[name]) end
  if name and modules[name] then return "; here it is cld" end
  if find(message, "attempt to call a table value %(for iterator") then
    return hint(names.enumerate .. ", or for name, x in pairs(t) do ... end")
  end
  if find(message, "attempt to concatenate a cld.tensor value", 1, true)
    or find(message, "number expected, got cld.tensor", 1, true) then
    return "; x:item() is the number of a tensor of one element"
  end
  local field = match(message, "attempt to call a [%w_.]+ value %(%w+ '([%w_]+)'%)$")
  if field and find(" shape dtype device ndim T requires_grad is_leaf ", " " .. field .. " ", 1, true) then
    return "; write x." .. field .. ", without parentheses"
  end
  return ""
end

return python

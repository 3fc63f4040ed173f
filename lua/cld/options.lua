--- A recipe's options: declared once, read from the command line, checked, shown by --help.
--
--   local opt = cld.options {
--     about = "what the recipe does",
--     { "epochs",   200,      "training epochs", min = 1 },
--     { "schedule", "cosine", "learning rate over time", choices = { "cosine", "step" } },
--     { "erase",    false,    "random erasing" },       -- --erase, --no-erase
--     cld.options.training,                             -- a list of further declarations
--   }
--   opt.epochs                                          -- dashes in a name become underscores
--
-- The type of the default is the type of the option. Further fields: min, max, above (exclusive), choices, and
-- value = "optional" for a flag that may also take a text. opt is a plain table of values, but for a name that was not
-- declared, which is an error.
local argparse = require "argparse"
local caller = require "cld.caller"
local user_error = require "cld.user_error"

local options = {}

--- What every training recipe has beside its method: the run folder, the machine. See cld.run.
options.training = {
  { "seed",        1,      "seed of all that is random", min = 0 },
  { "threads",     0,      "threads of the kernels; 0: OMP_NUM_THREADS, or one per core; resumed: as before", min = 0 },
  { "winograd",    true,   "faster 3 x 3 convolutions, about one decimal digit less precise" },
  { "workers",     1,      "threads of the loader; 0: none of its own", min = 0, max = 256 },
  { "device",      "cpu",  "where to compute", choices = { "cpu" } },
  { "runs",        "runs", "folder of the run folders" },
  { "name",        "",     "name of the run folder; empty: the recipe's, numbered where it exists" },
  { "resume",      false,  "continue a run: its folder or checkpoint; alone: --name's, or the recipe's latest",
    value = "optional" },
  { "save-every",  1,      "epochs between checkpoints", min = 1 },
  { "print-every", 10,     "seconds between progress lines where the output is no terminal", min = 0 },
}

-- ---- declarations -----------------------------------------------------------

local pending = {} -- defaults for the next options{...}

--- Other defaults for the next cld.options: a recipe that is another one with other settings. {lambda = 0.25, ...}
function options.defaults(values)
  for name, value in pairs(values) do pending[name] = value end
end

local function field_name(name) return (name:gsub("-", "_")) end

local function kind_of(declaration)
  if declaration.value then return declaration.value end
  return math.type(declaration[2]) or type(declaration[2])
end

-- Declarations in order and by field, groups dissolved, options.defaults applied.
local function collect(list, into)
  into = into or {}
  for i, entry in ipairs(list) do
    if type(entry) ~= "table" then
      error(("options: entry %d is a %s, not { name, default, help }"):format(i, type(entry)), 4)
    end
    if type(entry[1]) == "table" then
      collect(entry, into)
    else
      local field = field_name(entry[1])
      if into[field] then error(("options: '%s' is declared twice"):format(entry[1]), 4) end
      local declaration = setmetatable({ field = field, kind = kind_of(entry) }, { __index = entry })
      into[#into + 1], into[field] = declaration, declaration
    end
  end
  return into
end

-- ---- values -----------------------------------------------------------------

-- "an integer from 1 to 10", "a number above 0", "one of a, b"
local function expected(d)
  if d.choices then return "one of " .. table.concat(d.choices, ", ") end
  if d.kind == "boolean" then return "true or false" end
  if d.kind ~= "integer" and d.kind ~= "float" then return "a text" end
  local text = d.kind == "integer" and "an integer" or "a number"
  if d.above then text = ("%s above %g"):format(text, d.above) end
  if d.min and d.max then return ("%s from %g to %g"):format(text, d.min, d.max) end
  if d.min then return ("%s of at least %g"):format(text, d.min) end
  if d.max then return ("%s%s at most %g"):format(text, d.above and " and" or " of", d.max) end
  return text
end

local function in_range(d, number)
  return number == number and math.abs(number) ~= math.huge and not (d.min and number < d.min)
    and not (d.max and number > d.max) and not (d.above and number <= d.above)
end

-- The value as the declared type, or nil. Command line arguments are strings; other callers may give the type itself.
local function convert(d, value)
  if d.kind == "optional" then return value end
  if d.kind == "boolean" then
    if type(value) == "boolean" then return value end
    return nil
  end
  if d.kind == "string" then
    if type(value) ~= "string" then return nil end
    for _, choice in ipairs(d.choices or { value }) do
      if choice == value then return value end
    end
    return nil
  end
  local number = tonumber(value)
  if number and d.kind == "integer" then number = math.tointeger(number) end
  if not number or not in_range(d, number) then return nil end
  return d.kind == "float" and number + 0.0 or number
end

-- The same, or the user's error.
local function checked(d, value)
  local converted = convert(d, value)
  if converted == nil then
    user_error.raise("option '--%s': expected %s, got '%s'", d[1], expected(d), tostring(value))
  end
  return converted
end

--- check(where, list of declarations, values): values that were stored, as a checkpoint does; the user's error names
-- the first that is missing or does not fit.
function options.check(where, list, values)
  for _, d in ipairs(collect(list)) do
    local value = values[d.field]
    if value == nil or type(value) ~= type(d[2]) or convert(d, value) == nil then
      user_error.raise("%s: its option '%s' is %s; expected %s", where, d[1], caller.shown(value), expected(d))
    end
  end
end

local function apply_defaults(declarations)
  local defaults = pending
  pending = {}
  for name, value in pairs(defaults) do
    local d = declarations[name]
    if not d then error(("options.defaults: no option '%s' is declared"):format(name), 4) end
    d[2] = checked(d, value)
  end
end

-- ---- the command line -------------------------------------------------------

local function shown_default(d)
  local default = d[2]
  if default == "" or d.kind == "optional" then return "" end
  if d.kind ~= "boolean" then return (" (default: %s)"):format(tostring(default)) end
  return default and (" (default: yes; --no-%s turns it off)"):format(d[1]) or " (default: no)"
end

local function build_parser(program, about, declarations)
  local parser = argparse(program, about):usage(("usage: cldlua %s [options]"):format(program))
  parser:help_max_width(110):help_description_margin(27)
  parser:argument("unexpected"):args("*"):hidden(true)
  for _, d in ipairs(declarations) do
    local name, help = "--" .. d[1], d[3] .. shown_default(d)
    if d.kind == "boolean" then
      parser:flag(name):target(d.field):description(help):action("store_true")
      parser:flag("--no-" .. d[1]):target(d.field):hidden(true):action("store_false")
    else
      local placeholder = d.choices and "{" .. table.concat(d.choices, ",") .. "}"
        or ({ integer = "<integer>", float = "<number>", optional = "<path>" })[d.kind] or "<text>"
      parser:option(name):target(d.field):description(help):argname(placeholder):args(d.kind == "optional" and "?" or 1)
    end
  end
  return parser
end

-- argparse takes "-1" for an option: give a negative number to the option before it with an equals sign.
local function join_negative_numbers(arguments)
  local out = {}
  for _, argument in ipairs(arguments) do
    local before = out[#out]
    if tonumber(argument) and argument:sub(1, 1) == "-" and before and before:find "^%-%-[^=]+$" then
      out[#out] = before .. "=" .. argument
    else
      out[#out + 1] = argument
    end
  end
  return out
end

-- argparse's message in one line, with the nearest name.
local function parse_error(message, declarations)
  local unknown = message:match "^unknown option '(.-)'"
  if not unknown then user_error.raise("%s (--help lists the options)", (message:gsub("%s*\n%s*", "; "))) end
  local names = { "--help" }
  for _, d in ipairs(declarations) do
    names[#names + 1] = "--" .. d[1]
    if d.kind == "boolean" then names[#names + 1] = "--no-" .. d[1] end
  end
  user_error.raise("unknown option '%s'%s (--help lists the options)", unknown, user_error.hint(unknown, names))
end

-- The strings of the command line into {field = value as given}.
local function parse(about, declarations, arguments, program)
  local parser = build_parser(program, about, declarations)
  local ok, result = parser:pparse(join_negative_numbers(arguments))
  if not ok then parse_error(result, declarations) end
  local stray = result.unexpected and result.unexpected[1]
  if stray then user_error.raise("unexpected argument '%s' (--help lists the options)", stray) end
  for _, d in ipairs(declarations) do
    local value = result[d.field]
    if d.kind == "optional" and type(value) == "table" then result[d.field] = value[1] or true end
  end
  return result
end

-- ---- cld.options{...} -------------------------------------------------------

local Options = { __name = "cld.options" }

function Options.__index(_, name)
  error(("no option '%s' is declared"):format(tostring(name)), 2)
end

-- What cld.run wants to know beside the values: the declarations in order, and which fields the user gave. Kept aside,
-- so that opt stays a plain table of values.
local facts = setmetatable({}, { __mode = "k" })

--- details(opt) -> {declarations, given = {field = true}} of what cld.options returned; nil for any other table.
function options.details(opt) return facts[opt] end

--- cld.options(spec[, arguments]): `arguments` stands in for the command line: a list of its strings, and for the rest
-- {field = value}.
setmetatable(options, { __call = function(_, spec, arguments)
  local declarations = collect(spec)
  apply_defaults(declarations)
  arguments = arguments or arg or {}
  local program = tostring(arguments[0] or arg and arg[0] or "recipe"):match "[^/]*$"
  local opt, given = {}, {}
  for _, d in ipairs(declarations) do opt[d.field] = d[2] end
  local parsed = parse(spec.about, declarations, arguments, program)
  for name, value in pairs(arguments) do
    if type(name) == "string" then
      if not declarations[name] then user_error.raise("no option '%s' is declared", name) end
      parsed[name] = value
    end
  end
  for _, d in ipairs(declarations) do
    if parsed[d.field] ~= nil then
      opt[d.field] = checked(d, parsed[d.field])
      given[d.field] = true
    end
  end
  setmetatable(opt, Options)
  facts[opt] = { declarations = declarations, given = given }
  return opt
end })

return options

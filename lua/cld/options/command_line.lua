--- The command line for declared options: --help, and parsing arguments into values as they were typed.
local argparse = require "argparse"
local user_error = require "cld.user_error"
local values = require "cld.options.values"

local command_line = {}

-- "(at least 1; default: 200)": the end of a declaration's line in the help.
local function facts(d)
  local range = values.is_number(d) and values.range(d) or ""
  local default
  if d.default_text then
    default = "default: " .. d.default_text
  elseif d.kind == "boolean" then
    default = d[2] and ("default: yes; --no-%s turns it off"):format(d[1]) or ("default: no, --no-%s"):format(d[1])
  elseif d[2] ~= "" and d.kind ~= "optional" and not values.is_beside(d) then
    default = "default: " .. tostring(d[2])
  end
  local text = table.concat({ range ~= "" and range or default, range ~= "" and default or nil }, "; ")
  return text ~= "" and " (" .. text .. ")" or ""
end

local placeholders = { integer = "<integer>", number = "<number>", optional = "<path>", integers = "<integers>",
  numbers = "<numbers>", device = "<device>" }

-- The placeholder for its value in the help, or nil.
local function placeholder(d)
  if d.kind == "boolean" then return nil end
  return d.choices and "{" .. table.concat(d.choices, ",") .. "}" or placeholders[d.kind] or "<text>"
end

--- described(d) -> "--epochs <integer>", "training epochs (at least 1; default: 200)": an option as --help shows it.
function command_line.described(d)
  local value = placeholder(d)
  return "--" .. d[1] .. (value and " " .. value or ""), d[3] .. facts(d)
end

-- The declaration of the positional arguments, or nil, and whether it takes a single word.
local function others_of(declarations)
  for _, d in ipairs(declarations) do
    if values.is_beside(d) then return d, d.kind == "argument" end
  end
end

--- "usage: cldlua watch.lua [options] RUNS..."
function command_line.usage(program, declarations)
  local others, is_one = others_of(declarations)
  local after = others and (is_one and " %s" or " %s..."):format(others[1]:upper()) or ""
  return ("usage: cldlua %s [options]%s"):format(program, after)
end

local function build_parser(program, about, declarations)
  local others, is_one = others_of(declarations)
  local parser = argparse(program, about):usage(command_line.usage(program, declarations))
  parser:help_max_width(110):help_description_margin(27)
  if others then
    parser:argument(others[1]:upper()):target(others.field):description(others[3]):args(is_one and "?" or "*")
  end
  if not others or is_one then parser:argument("unexpected"):args("*"):hidden(true) end
  for _, d in ipairs(declarations) do
    if values.is_beside(d) then goto continue end
    local name, help = "--" .. d[1], d[3] .. facts(d)
    if d.kind == "boolean" then
      parser:flag(name):target(d.field):description(help):action("store_true")
      parser:flag("--no-" .. d[1]):target(d.field):hidden(true):action("store_false")
    else
      local option = parser:option(name):target(d.field):description(help):argname(placeholder(d))
      option:args(d.kind == "optional" and "?" or 1)
    end
    ::continue::
  end
  return parser
end

local function unexpected(argument)
  user_error.raise("unexpected argument '%s' (--help lists the options)", argument)
end

--- check_first(arguments): the user's error if the first is not an option, for a command line that takes only options.
function command_line.check_first(arguments)
  if arguments[1] and not arguments[1]:find "^%-" then unexpected(arguments[1]) end
end

-- recipe: the file that declares the options, if it is not the one that was started.
local function unknown_option(name, declarations, recipe)
  local names = { "--help" }
  for _, d in ipairs(declarations) do
    if not values.is_beside(d) then names[#names + 1] = "--" .. d[1] end
    if d.kind == "boolean" then names[#names + 1] = "--no-" .. d[1] end
  end
  local hint = user_error.hint(name, names)
  if recipe then
    user_error.raise("unknown option '%s' of %s, which was chosen%s (%s --help lists its options)", name, recipe, hint,
      recipe)
  end
  user_error.raise("unknown option '%s'%s (--help lists the options)", name, hint)
end

-- Translates --flag=true and --flag=false for argparse; other arguments stay as they are.
local function flag_with_value(argument, by_name)
  local name, value = argument:match "^%-%-([^=]+)=(.*)$"
  local d = by_name[name]
  if not d or d.kind ~= "boolean" then return argument end
  if value == "true" then return "--" .. name end
  if value == "false" then return "--no-" .. name end
  user_error.raise("option '--%s': expected %s, got '%s'", name, values.expected(d), value)
end

-- Raises if a value of option d begins with a single '-': argparse would take it for an option.
local function dashed_value(d, argument)
  if values.is_number(d) or d.kind == "numbers" then return end
  user_error.raise("option '--%s': the value '%s' begins with '-'; --%s=%s gives it", d[1], argument, d[1], argument)
end

-- Rewrites the arguments so that argparse reads them as intended, or raises the user's error. Nothing after
-- "--" is an option, whatever it begins with.
local function prepare(arguments, declarations, recipe)
  local by_name, out, takes_others = {}, {}, false
  for _, d in ipairs(declarations) do
    if values.is_beside(d) then takes_others = true else by_name[d[1]] = d end
  end
  for i, argument in ipairs(arguments) do
    if argument == "--" then return table.move(arguments, i, #arguments, #out + 1, out) end
    local before = out[#out]
    local d = before and by_name[before:match "^%-%-(.+)$"]
    local one_dash = argument:find "^%-[^-]" ~= nil
    local is_word = argument:sub(1, 1) ~= "-" and not takes_others
    if d and d.kind == "boolean" and (is_word or argument == "true" or argument == "false") then
      out[#out] = flag_with_value(("--%s=%s"):format(d[1], argument), by_name)
    elseif d and d.kind ~= "boolean" and one_dash then
      dashed_value(d, argument)
      out[#out] = before .. "=" .. argument
    elseif one_dash and argument ~= "-h" then
      unknown_option(argument, declarations, recipe)
    else
      out[#out + 1] = flag_with_value(argument, by_name)
    end
  end
  return out
end

--- only(declarations, arguments) -> the arguments that are among these options, with their values, and --help.
function command_line.only(declarations, arguments)
  local by_name, out = {}, {}
  for _, d in ipairs(declarations) do
    by_name["--" .. d[1]] = d
    if d.kind == "boolean" then by_name["--no-" .. d[1]] = d end
  end
  local i = 1
  while i <= #arguments and arguments[i] ~= "--" do
    local argument, following = arguments[i], arguments[i + 1]
    local d = by_name[argument:match "^[^=]+"]
    if d or argument == "--help" or argument == "-h" then out[#out + 1] = argument end
    local takes = d and d.kind ~= "boolean" and not argument:find("=", 1, true)
    if takes and following and not (d.kind == "optional" and following:sub(1, 1) == "-") then
      out[#out + 1] = following
      i = i + 1
    end
    i = i + 1
  end
  return out
end

--- parse(about, declarations, arguments, program[, recipe]) -> {field = value as given}. recipe: the file that declares
-- the options, if it is not the one that was started.
function command_line.parse(about, declarations, arguments, program, recipe)
  local ok, result = build_parser(program, about, declarations):pparse(prepare(arguments, declarations, recipe))
  if not ok then
    local unknown = result:match "^unknown option '(.-)'"
    if unknown then unknown_option(unknown, declarations, recipe) end
    user_error.raise("%s (--help lists the options)", (result:gsub("%s*\n%s*", "; ")))
  end
  local stray = result.unexpected and result.unexpected[1]
  if stray then unexpected(stray) end
  for _, d in ipairs(declarations) do
    local value = result[d.field]
    if d.kind == "optional" and type(value) == "table" then result[d.field] = value[1] or true end
  end
  return result
end

return command_line

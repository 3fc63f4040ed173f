--- A recipe's options: declared once, read from the command line, checked, and shown by --help.
--
--   local opt = cld.options {
--     about = "what the recipe does",
--     { "epochs",   200,      "training epochs", min = 1, integer = true },
--     { "lr",       0.03,     "learning rate", above = 0 },
--     { "method",   "npid",   "what to train", choices = { "npid", "moco" } },
--     { "erase",    false,    "random erasing" },       -- --erase, --no-erase
--     cld.options.cld { clusters = 200 },               -- a list of further declarations, with other defaults
--     cld.options.training,
--   }
--   opt.epochs                                          -- dashes in a name become underscores
--
-- The type of the default is the type of the option. A number may have a fraction, whether or not the default has one,
-- unless `integer` is true. It becomes a Lua integer if it has no fraction and the default is written as an integer,
-- else a float. Further fields: min, max, above (exclusive), choices, nonempty (a text that may not be ""); fixed: why
-- a resumed run cannot take another value (run/settings.lua); needs = { "schedule", "step" }: the option has an effect
-- only if the option named first has one of the values after it, and giving it otherwise is an error; path = true: a
-- text that names a file or folder, which a resumed run looks for where it was started; and value:
--
--   "optional"   a flag that may also take a text
--   "integers"   a text of ascending positive integers: options.integers(text) makes a list of it
--   "numbers"    a text of different numbers, each within min, above and max: options.numbers(text), a list of floats;
--                it may be empty if the default is
--   "device"     a text such as "cuda:1"
--   "arguments"  the list of positional arguments: { "runs", {}, help, value = ... }; after "--" they may begin with a
--                dash
--   "argument"   a single positional argument
--
-- opt is a plain table of values, except that reading a name that was not declared is an error.
local core = require "cld.core"
local caller = require "cld.caller"
local command_line = require "cld.options.command_line"
local groups = require "cld.options.groups"
local sorted_keys = require "cld.sorted_keys"
local user_error = require "cld.user_error"
local values = require "cld.options.values"

local options = {}

--- cld.options.simclr: declarations of SimCLR's options: its projector, cld.losses.nt_xent.
--- cld.options.byol: declarations of BYOL's options: its networks, cld.losses.byol, cld.schedule.byol_tau. Put it into
-- cld.options{...}; call it with {name = value} for other defaults.
--- Groups of options that recipes share (options/groups.lua): .encoder, .resnet, .images, .view, .cifar, .folder,
-- .imagenet, .stl10, .kitchen_hc, .npid, .moco, .moco_v2, .infomin, .byol, .simclr, .cld, .blocks, .micro_batches,
-- .sgd, .optimizer, .schedule, .knn, .checkpoint, .machine, .training. Each is a list of declarations. Call it with
-- {name = value} for other defaults; :fixed { name = why } makes options that a resumed run cannot change.
for name, group in pairs(groups) do options[name] = group end

--- cld.options.check_moco_v2(opt): raises the user's error if the options of MoCo v2 + CLD contradict each other.
function options.check_moco_v2(opt) return require "cld.options.moco_v2".check(opt) end
--- cld.options.check_moco_v2_images(opt, count): raises the user's error if the options of MoCo v2 + CLD do not fit
-- that many training images.
function options.check_moco_v2_images(opt, count) return require "cld.options.moco_v2".check_images(opt, count) end

--- cld.options.check_infomin(opt): raises the user's error if the options of InfoMin + CLD contradict each other
-- (options/infomin.lua). check_moco_v2_images applies to them too.
function options.check_infomin(opt) return require "cld.options.infomin".check(opt) end

--- cld.options.check_byol(opt, count): raises the user's error if the options of BYOL + CLD contradict each other, or
-- do not fit that many training images.
function options.check_byol(opt, count) return require "cld.options.byol".check(opt, count) end

--- cld.options.check_queue(opt): raises the user's error if --queue cannot take the keys of a batch.
function options.check_queue(opt) return require "cld.options.moco_v2".check_queue(opt) end

--- cld.options.tell_of_queue(opt, count): prints a notice if --queue exceeds that many training images.
function options.tell_of_queue(opt, count) return require "cld.options.moco_v2".tell_of_queue(opt, count) end

-- ---- declarations -----------------------------------------------------------

options.integers, options.numbers = values.integers, values.numbers

local pending = {} -- defaults for the next options{...}

--- cld.options.defaults{name = value}: other defaults for the next cld.options: for a recipe that runs another one
-- with different settings. If a name is given twice the first counts: when recipes run each other, the outermost one
-- decides.
function options.defaults(settings)
  for name, value in pairs(settings) do
    if pending[name] == nil then pending[name] = value end
  end
end

local further = {} -- declarations for the next options{...}; recipe = the file whose options they join

--- cld.options.further(declarations[, recipe]): more options for the next cld.options: for a recipe that runs another
-- one and has options of its own, which are stored and resumed with the others. recipe: the other recipe's file, which
-- the error for an unknown option names.
function options.further(declarations, recipe)
  further[#further + 1] = declarations
  further.recipe = recipe
end

local function field_name(name) return (name:gsub("-", "_")) end

-- The declarations as a flat list and by field, with options.defaults applied.
local function collect(list, into)
  into = into or {}
  for i, entry in ipairs(list) do
    if type(entry) ~= "table" then
      caller.raise("options: entry %d is a %s, not { name, default, help }", i, type(entry))
    end
    if type(entry[1]) == "table" or next(entry) == nil then
      collect(entry, into)
    else
      local field = field_name(entry[1])
      if into[field] then caller.raise("options: '%s' is declared twice", entry[1]) end
      local fault = not rawget(entry, "field") and values.fault(entry) -- unless checked before
      if fault then caller.raise("options: '%s': %s", entry[1], fault) end
      local declaration = setmetatable({ field = field, kind = values.kind(entry) }, { __index = entry })
      into[#into + 1], into[field] = declaration, declaration
    end
  end
  return into
end

-- ---- values -----------------------------------------------------------------

-- The value converted to the declared type, or the user's error.
local function checked(d, value)
  local converted = values.convert(d, value)
  if converted == nil then
    user_error.raise("option '--%s': expected %s, got '%s'", d[1], values.expected(d), tostring(value))
  end
  return converted
end

--- cld.options.check(where, declarations, values): checks that stored options, of a checkpoint for example, are
-- present and fit their declarations; the user's error names the first that does not. The message begins with `where`.
function options.check(where, list, stored)
  local _ <close> = core.text.c_locale()
  for _, d in ipairs(collect(list)) do
    local value = stored[d.field]
    local is_typed = d.kind == "optional" or type(value) == type(d[2])
    if value == nil or not is_typed or values.convert(d, value) == nil then
      user_error.raise("%s: its option '%s' is %s; expected %s", where, d[1], caller.shown(value), values.expected(d))
    end
  end
end

local function apply_defaults(declarations)
  local defaults = pending
  pending = {}
  for name, value in pairs(defaults) do
    local d = declarations[name]
    if not d then caller.raise("options.defaults: no option '%s' is declared", name) end
    d[2] = checked(d, value)
  end
end

-- ---- cld.options{...} -------------------------------------------------------

local Options = { __name = "cld.options" }

function Options.__index(opt, name)
  caller.raise("no option '%s' is declared%s", tostring(name), user_error.hint(tostring(name), sorted_keys(opt)))
end

-- What cld.run needs besides the values: the declarations in order, and the fields that the user gave. Kept elsewhere,
-- so that opt stays a plain table of values.
local facts = setmetatable({}, { __mode = "k" })

--- cld.options.details(opt) -> {declarations, given = {field = true}} or nil: for a table that cld.options returned,
-- its declarations and the options that the user gave; nil for any other table.
function options.details(opt) return facts[opt] end

-- Why an option has no effect while `name`, the option that it needs, has this value: "with --schedule cosine; it needs
-- --schedule step", "without --download".
local function no_effect(name, value, needed)
  if type(value) == "boolean" then return (value and "with --" or "without --") .. name end
  return ("with --%s %s; it needs --%s %s"):format(name, tostring(value), name, table.concat(needed, " or "))
end

--- cld.options.check_needs(opt): the user's error if an option was given that has no effect with the others
-- (`needs` of the declarations).
function options.check_needs(opt)
  local details = facts[opt]
  for _, d in ipairs(details and details.declarations or {}) do
    local needs = details.given[d.field] and d.needs
    local value = needs and rawget(opt, field_name(needs[1]))
    local is_met, needed = value == nil, {}
    for i = 2, value ~= nil and #needs or 0 do
      is_met = is_met or value == needs[i]
      needed[i - 1] = tostring(needs[i])
    end
    if not is_met then
      user_error.raise("option '--%s' has no effect %s", d[1], no_effect(needs[1], value, needed))
    end
  end
end

--- If set, the reason why no recipe can begin now: cld.options raises it until it is false again.
options.refusal = false

local function program_name(arguments)
  return core.text.printable_line(tostring(arguments[0] or arg and arg[0] or "recipe"):match "[^/]*$")
end

--- cld.options.peek(spec[, arguments]) -> {field = value}, {field = true} of those that the command line gives: reads
-- only the options of spec, as cld.options would, and ignores the rest of the command line. For a recipe that chooses
-- by some options which recipe to run; that recipe's cld.options then reads them all. --help lists the options of spec;
-- spec.default_texts = {field = text} is what it says in place of a default that will not be used.
function options.peek(spec, arguments)
  local _ <close> = core.text.c_locale()
  arguments = arguments or arg or {}
  command_line.check_first(arguments)
  local declarations, opt, given = collect(spec), {}, {}
  for _, d in ipairs(declarations) do d.default_text = (spec.default_texts or {})[d.field] end
  local parsed = command_line.parse(spec.about, declarations, command_line.only(declarations, arguments),
    program_name(arguments))
  for _, d in ipairs(declarations) do
    local value = parsed[d.field]
    opt[d.field], given[d.field] = d[2], value ~= nil or nil
    if value ~= nil then opt[d.field] = checked(d, value) end
  end
  return opt, given
end

--- cld.options(spec[, arguments]): `arguments` replaces the command line: a list of its strings, or {field = value}
-- for the rest.
setmetatable(options, { __call = function(_, spec, arguments)
  if options.refusal then user_error.raise("%s", options.refusal) end
  local _ <close> = core.text.c_locale() -- --lr 0.5 means the same in any locale
  local declarations, recipe = collect(further, collect(spec)), further.recipe
  further = {}
  apply_defaults(declarations)
  arguments = arguments or arg or {}
  local opt, given = {}, {}
  for _, d in ipairs(declarations) do opt[d.field] = d[2] end
  local parsed = command_line.parse(spec.about, declarations, arguments, program_name(arguments), recipe)
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
  if not rawget(opt, "resume") then options.check_needs(opt) end -- else cld.run does, with the stored options
  return opt
end })

return options

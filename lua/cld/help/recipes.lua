--- The recipes and their options, for `make`: each recipe is run up to where it reads its command line.
local command_line = require "cld.options.command_line"

-- What the recipe declares: {about, declarations}.
local function declared(path)
  local parse, arguments, read = command_line.parse, _G.arg, nil
  _G.arg = {}
  function command_line.parse(about, declarations)
    read = { about = about, declarations = declarations }
    error(read, 0)
  end
  local ok, problem = pcall(dofile, path)
  command_line.parse, _G.arg = parse, arguments
  if not read then error(("%s reads no command line: %s"):format(path, ok and "it ended" or tostring(problem)), 0) end
  return read
end

--- recipes(paths) -> list of {name, usage, about, options = {name, ...}}, and a list of their options, in alphabetical
-- order: {name, forms = {{value, text, recipes = {name, ...}}, ...}}. A form is how --help shows the option; the form
-- that most recipes have is the first.
return function(paths)
  local recipes, options, by_name = {}, {}, {}
  for i, path in ipairs(paths) do
    local recipe = declared(path)
    local name, names = path:match "([^/]+)%.lua$", {}
    for _, d in ipairs(recipe.declarations) do
      if d.kind ~= "arguments" then
        local option, form = by_name[d[1]], nil
        if not option then
          option = { name = d[1], forms = {} }
          by_name[d[1]], options[#options + 1] = option, option
        end
        local value, text = command_line.described(d)
        for _, known in ipairs(option.forms) do
          if known.value == value and known.text == text then form = known end
        end
        if not form then
          form = { value = value, text = text, recipes = {} }
          table.insert(option.forms, form)
        end
        table.insert(form.recipes, name)
        names[#names + 1] = "--" .. d[1]
      end
    end
    local usage = command_line.usage("recipes/" .. name .. ".lua", recipe.declarations)
    recipes[i] = { name = name, usage = usage, about = recipe.about, options = names }
  end
  table.sort(options, function(a, b) return a.name < b.name end)
  for _, option in ipairs(options) do
    table.sort(option.forms, function(a, b)
      if #a.recipes ~= #b.recipes then return #a.recipes > #b.recipes end
      return a.recipes[1] < b.recipes[1]
    end)
  end
  return recipes, options
end

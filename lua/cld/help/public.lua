--- The public names: every function, class and value that a user's program can name, found by walking `cld` itself.
local core = require "cld.core"
local sorted_keys = require "cld.sorted_keys"

local public = {}

-- Tables in cld's modules that have their own functions.
local INNER = { ["cld.nn.functional"] = true, ["cld.nn.init"] = true }

-- Other tables in the modules; their entries have no texts of their own.
local function is_module_table(name, value)
  return type(value) == "table" and (INNER[name] or name:find "^cld%.[%w_]+$" ~= nil)
end

local function fields(name, module)
  if name == "cld.models" then
    local all = {}
    for key, value in next, module do all[key] = value end
    for key, value in pairs(module.constructors) do all[key] = value end
    return all
  end
  if name ~= "cld" then return module end
  local all = {}
  for key, value in pairs(module) do all[key] = value end
  return all
end

local function walk(name, module, visit)
  local all = fields(name, module)
  for _, key in ipairs(sorted_keys(all)) do
    local value, full = all[key], name .. "." .. key
    if type(key) == "string" and key:sub(1, 1) ~= "_" then
      visit(full, value, name)
      if is_module_table(full, value) then walk(full, value, visit) end
    end
  end
end

--- Calls visit(name, value, module's name) for everything under cld, modules before their content.
function public.each(cld, visit) walk("cld", cld, visit) end

--- The names of methods and properties of objects that only C makes: {tensor = {methods =, properties =}, ...}.
function public.userdata()
  local kinds = {}
  for kind, name in pairs { tensor = "cld.tensor", optimizer = "cld.optimizer" } do
    local meta = debug.getregistry()[name]
    kinds[kind] = { methods = meta.methods, properties = meta.properties }
  end
  return kinds
end

--- The kind of an object, which determines its methods: "tensor", "module", "loader", ...; nil for any other value.
function public.kind(value)
  local meta = debug.getmetatable(value)
  if type(value) == "table" and rawget(value, "_members") then return "module" end
  local name = type(value) ~= "string" and type(meta) == "table" and rawget(meta, "__name")
  return type(name) == "string" and public.kinds[name] or nil
end

--- {metatable's name = what its objects are called here}.
public.kinds = {
  ["cld.tensor"] = "tensor", ["cld.optimizer"] = "optimizer", ["cld.memory_bank"] = "memory_bank",
  ["cld.moco_queue"] = "moco_queue", ["cld.losses.infomin"] = "infomin_loss", ["cld.augment.list"] = "augmentation",
  ["cld.dataset"] = "dataset", ["cld.loader"] = "loader", ["cld.run"] = "run",
  ["cld.over_parts"] = "over_parts", ["cld.eval.linear_probe"] = "linear_probe", ["cld.eval.finetuning"] = "finetuning",
}

--- A line on each kind of object.
public.about_kinds = {
  tensor = "an array of numbers", optimizer = "what cld.optim.sgd and the like make",
  module = "a layer or a network: what every module can do", module_list = "cld.nn.sequential and cld.nn.module_list",
  memory_bank = "what cld.losses.memory_bank makes", moco_queue = "what cld.losses.moco_queue makes",
  infomin_loss = "what cld.losses.infomin makes", augmentation = "a list of steps that makes views",
  dataset = "what cld.data.cifar10, .folder and the like make", loader = "what cld.data.loader makes",
  run = "what cld.run makes: the loop over epochs",
  net = "a network of cld.models", over_parts = "what cld.diagnostics.over_parts makes",
  linear_probe = "what cld.eval.linear_probe makes", finetuning = "what cld.eval.finetuning makes",
}

-- The tensor's functions are in C: cld.sum is tensor:sum.
function public.is_core_function(name, method)
  return rawget(core.tensor, name:match "^cld%.([%w_]+)$" or "") == method
end

return public

--- The error for a method that a module lacks. A module's fields may have any name, so Lua's own error remains if no
-- method has a similar name.
local missing = require "cld.missing"
local module = require "cld.nn.module"
local user_error = require "cld.user_error"

setmetatable(module.base, { __index = missing.index(function(owner, key)
  local is_module = module.is_module(owner)
  local rest = require "cld.help.pytorch".hint(key, "Module")
  if rest == "" then
    rest = user_error.hint(key, missing.methods(is_module and module.members_of(owner).class or module.base))
  end
  return is_module and owner._name or "a module", rest ~= "" and rest or nil
end) })

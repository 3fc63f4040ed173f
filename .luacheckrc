-- luacheck: Lua 5.4, lines up to 120 columns.
std = "lua54"
max_line_length = 120
exclude_files = { "build*/", "runs/", "data/" }
files["spec"] = { std = "+busted" }
files["spec/**/*_spec.lua"] = { std = "+busted" }

-- What `make lint` checks Lua with: Lua 5.4, lines up to 120 columns.
std = "lua54"
max_line_length = 120
exclude_files = { "build*/", "runs/", "data/" }
files["spec"] = {
  std = "+busted",
  ignore = { "581" }, -- not (x <= y): written so that NaN fails
}

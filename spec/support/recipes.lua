--- The recipes as a user runs them, on a few toy images in a folder that is removed at the end.
local cld = require "cld"
local process = require "spec.support.process"

local recipes = {}
local folder

-- A training makes no report unless a spec asks for it: it would take a quarter of the time.
local function command(name, ...)
  local words = { "recipes/" .. name .. ".lua", ... }
  local trains = name:find "_cld$" or name:find "_simclr$"
  for _, word in ipairs(words) do trains = trains and word ~= "--report" and word ~= "--help" end
  if trains then table.insert(words, 2, "--no-report") end
  return words
end

--- The result of `cldlua recipes/<name>.lua ...`: code, out, err. A training makes a report if --report is given.
function recipes.run(name, ...) return process.run(command(name, ...)) end

--- The same, with Lua code run before it: to stop the recipe, or to poison its loss.
function recipes.run_after(code, name, ...)
  local init = process.write(folder .. "/init.lua", "local cld = require 'cld'\n" .. code)
  local words = command(name, ...)
  words.env = { LUA_INIT = "@" .. init }
  return process.run(words)
end

--- Code that sends the process a signal in its `step`-th step, counted from 1.
function recipes.stopped_at(step, signal)
  return ([[
    local count, loss = 0, cld.losses.cld
    function cld.losses.cld(...)
      count = count + 1
      if count == %d then io.popen("kill -%s " .. cld.host().pid):close() end
      return loss(...)
    end]]):format(step, signal)
end

--- Returns the folder, and the toy data in it. Runs should be in <folder>/runs.
function recipes.start()
  folder = process.temporary_folder()
  local toy = folder .. "/toy"
  local made = recipes.run("make_toy_data", "--out", toy, "--train", "48", "--test", "16")
  assert(made.code == 0, made.err)
  return folder, toy
end

function recipes.remove() process.remove(folder) end

--- Writes root/train and root/val: class folders with these names, each with an image of photos/train.
function recipes.imagenet(root, photos, wnids)
  os.execute(("mkdir -p %s/train %s/val"):format(root, root))
  local images = io.popen(("ls %s/train/*/*.jpg"):format(photos))
  local paths = {}
  for path in images:lines() do paths[#paths + 1] = path end
  images:close()
  local commands = {}
  for i, wnid in ipairs(wnids) do
    for _, split in ipairs { "train", "val" } do
      commands[#commands + 1] = ("mkdir %s/%s/%s && cp %s %s/%s/%s/%d.JPEG"):format(root, split, wnid,
        paths[i % #paths + 1], root, split, wnid, i)
    end
  end
  process.write(root .. "/make.sh", table.concat(commands, "\n"))
  assert(os.execute(("sh %s/make.sh"):format(root)))
  return root
end

--- The path of the run's checkpoint.
function recipes.checkpoint(run) return ("%s/runs/%s/checkpoint.safetensors"):format(folder, run) end

--- The events of a kind in a run's log, or all of them.
function recipes.events(run, kind)
  local found = {}
  for line in io.lines(("%s/runs/%s/log.jsonl"):format(folder, run)) do
    local event = cld.json.decode(line)
    if not kind or event.event == kind then found[#found + 1] = event end
  end
  return found
end

--- The last one.
function recipes.last(run, kind)
  local events = recipes.events(run, kind)
  return events[#events]
end

--- {option = its default}, from --help.
function recipes.defaults(name)
  local values, text = {}, recipes.run(name, "--help").out:gsub("\n          +", " ") -- one entry per line
  for entry in text:gmatch "\n +(%-%-[^\n]+)" do
    values[entry:match "^%-%-([%w-]+)"] = entry:match "default: ([^(),;]*)"
  end
  return values
end

--- The names of the tensors that differ between two runs.
function recipes.differences(a, b)
  local state, other = cld.load(recipes.checkpoint(a)), cld.load(recipes.checkpoint(b))
  local names = {}
  for name, tensor in pairs(state) do
    if not other[name] or tensor:ne(other[name]):any():item() ~= 0 then names[#names + 1] = name end
  end
  for name in pairs(other) do
    if not state[name] then names[#names + 1] = name end
  end
  return table.concat(names, ", ")
end

return recipes

--- A small recipe that run_spec.lua and run_folder_spec.lua stop in many ways, and functions that look at its runs.
local cld = require "cld"
local process = require "spec.support.process"

local example = {}

-- Its "network" is a tensor to which every step adds a random number and the step's number, so a resumed run that
-- repeats, skips or redraws anything ends with another value. A plain tensor and a table of tensors beside it work the
-- same way. At step --at (counted from 0) it sends itself the signals of --with.
example.recipe = [[
local cld = require "cld"
local opt = cld.options {
  about = "an example", { "epochs", 3, "epochs", min = 1, integer = true },
  { "batch-size", 8, "images per step", integer = true },
  { "rate", 0.5, "decay" }, { "size", 3, "of the tensor", integer = true }, { "extra", false, "one object more" },
  { "centre", 2, "size of another", integer = true },
  { "at", -1, "step to stop at", integer = true }, { "with", "", "signals to send to itself" },
  { "pause", 0.0, "seconds that each step takes" }, cld.options.training,
}
local run = cld.run(opt)

local Net = {}
Net.__index = Net
function Net:state_dict() return { w = self.w } end
function Net:load_state_dict(state)
  if not state.w then error "net: w is missing" end
  if #state.w ~= #self.w then error(("net: w is [%d] here, [%d] in the state"):format(#self.w, #state.w)) end
  self.w = state.w
end
local function new_net() return setmetatable({ w = cld.zeros(opt.size) }, Net) end

local loader = setmetatable({}, { __len = function() return 5 end })
function loader:epoch()
  local step = self.first_image // opt.batch_size
  return function()
    step = step + 1
    return step <= 5 and step or nil
  end
end

local net = new_net()
local centre, table_of = cld.zeros(opt.centre), { a = cld.zeros(1), b = cld.ones(2, "f64") }
for epoch in run:epochs {
  net = net, loader = loader, extra = opt.extra and new_net() or nil, centre = centre, table_of = table_of,
} do
  for step in loader:epoch(epoch) do
    if run.step == opt.at then
      -- io.popen and not os.execute, which ignores SIGINT while it waits.
      for signal in opt.with:gmatch "%a+" do io.popen("kill -" .. signal .. " " .. cld.host().pid):close() end
    end
    if opt.pause > 0 then os.execute("sleep " .. opt.pause) end
    net.w = net.w * opt.rate + cld.rand(opt.size) + run.step
    centre:mul_(opt.rate):add_(run.step)
    table_of.b = table_of.b * 1.5 + run.step
    run:track { loss = net.w:sum(), step = step, broken = 0 / 0 }
  end
  run:score { top1 = 1 / epoch, top5 = 0.5 }
end
]]

--- start() -> its own folder with the recipe, and functions that run the recipe and look at its runs.
function example.start()
  local folder = process.temporary_folder()
  local e = { folder = folder, script = process.write(folder .. "/example.lua", example.recipe) }

  function e.start(...)
    return process.run { e.script, "--runs", folder .. "/runs", "--threads", "1", "--no-report", ... }
  end

  function e.succeed(...)
    local result = e.start(...)
    if result.code ~= 0 then error(("exit %d\n%s\n%s"):format(result.code, result.out, result.err), 2) end
    return result
  end

  function e.path(name, file) return ("%s/runs/%s%s"):format(folder, name, file and "/" .. file or "") end

  -- What must be equal at the end of two runs: all tensors, the position except the time, the epochs' means.
  function e.outcome(name)
    local tensors, metadata = cld.load(e.path(name, "checkpoint.safetensors"))
    local values = {}
    for key, tensor in pairs(tensors) do values[key] = tensor:totable() end
    local position = cld.json.decode(metadata.position)
    position.seconds = nil
    return { values = values, position = position }
  end

  function e.log(name)
    local lines = {}
    local text = process.read(e.path(name, "log.jsonl"))
    for line in text:gmatch "[^\n]+" do lines[#lines + 1] = cld.json.decode(line) end
    return lines
  end

  return e
end

return example

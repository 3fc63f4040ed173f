--- What Lua cannot reach in the optimizers of the CUDA backend, with the kernels on the host; see
-- spec/support/cuda_optim.cu.
local cld = require "cld"
local devices = require "spec.support.devices"
local process = require "spec.support.process"

describe("optimizers of the CUDA backend", function()
  it("go by what lies on the device: finite gradients, the loss scale, conditions", function()
    local result = process.run { program = process.absolute(process.build .. "/spec/cuda_optim") }
    assert.equal("", result.err)
    assert.matches("^%d+ checks, 0 failures\n$", result.out)
    assert.equal(0, result.code)
  end)
end)

-- Names of the kernels that `action` launches, in order, for three groups of parameters of f32.
local function launches(action)
  local folder = process.temporary_folder()
  local script = process.write(folder .. "/optim.lua", [==[
    local cld = require "cld"
    local groups = {}
    for g = 1, 3 do
      groups[g] = { params = {}, lr = 0.1 * g, weight_decay = 0.01 * g }
      for i = 1, 10 do
        local w = cld.ones({ 500 * i }, { device = "cuda" }):requires_grad_()
        w.grad = w:detach() * 2
        groups[g].params[i] = w
      end
    end
    local params = groups[1].params
    local function mark() io.open(os.getenv "CLD_HOST_LAUNCHES", "w"):close() end
    ]==] .. action)
  local path = folder .. "/launches"
  local result = process.run { script, env = { CLD_HOST_LAUNCHES = path } }
  assert.equal("", result.err)
  local names = {}
  for line in process.read(path):gmatch "[^\n]+" do names[#names + 1] = line:match "[%w_]+" end
  process.remove(folder)
  return names
end

if #devices.names > 0 and cld.cuda.is_emulated() then
  describe("launches", function()
    local steps = { sgd = { "make_step" }, adamw = { "make_step" }, adam = { "make_step" },
      lars = { "lars_norms", "make_step" } }
    for rule, expected in pairs(steps) do
      it(("of a step of %s, for all groups"):format(rule), function()
        local made = ("local o = cld.optim.%s(groups, {}); o:step(); mark(); o:step()"):format(rule)
        assert.same(expected, launches(made))
      end)
    end

    it("of a step in 16 bits cast neither weights nor gradients of convolutions", function()
      local names = launches [[
        cld.set_precision "bf16"
        local net = cld.nn.sequential(cld.nn.conv2d(8, 8, 3, { bias = false }), cld.nn.relu(),
          cld.nn.conv2d(8, 16, 3, { bias = false })):to("cuda")
        local sgd, x = cld.optim.sgd(net:parameters(), { lr = 0.1 }), cld.ones({ 2, 8, 6, 6 }, { device = "cuda" })
        local function step() sgd:step(net(x):square():mean()) end
        step()
        mark()
        step()]]
      local made = 0
      for _, name in ipairs(names) do
        assert.not_equal("copy_tiles", name)
        if name == "make_step" then made = made + 1 end
      end
      assert.equal(1, made)
    end)

    it("of clipping, in a step and by itself", function()
      assert.same({ "sum_squares", "make_step" },
        launches "local o = cld.optim.sgd(groups, {}); o:step(); mark(); o:step { clip = 1 }")
      assert.same({ "sum_squares", "apply_rule" },
        launches "cld.optim.clip_grad_norm(params, 1); mark(); cld.optim.clip_grad_norm(params, 1)")
    end)

    it("of a dampened momentum's first step", function()
      assert.same({ "make_step" }, launches [[
        local o = cld.optim.sgd(groups, { momentum = 0.9, dampening = 0.5 })
        o:load_state_dict(cld.optim.sgd(groups, { momentum = 0.9, dampening = 0.5 }):state_dict())
        o:step()
        local fresh = o:state_dict()
        for i = 1, 30 do fresh["step." .. i] = cld.tensor(0, "i64") end
        o:load_state_dict(fresh)
        mark()
        o:step()]])
    end)
  end)
end

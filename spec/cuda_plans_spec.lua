--- Plans of convolutions: the choice is reported, passed to another process, and kept in the run's folder. This runs on
-- the emulated device, which chooses engine 0 and may be given 1; spec/support/cuda_plans.c asks cuDNN itself.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local process = require "spec.support.process"

local recipe = [[
local cld = require "cld"
local opt = cld.options {
  about = "an example", { "epochs", 1, "epochs", min = 1, integer = true },
  { "size", 5, "of the images", integer = true }, cld.options.training,
}
local run = cld.run(opt)
local weight = cld.ones(4, 3, 3, 3):to(opt.device)
for epoch in run:epochs { weight = weight } do
  cld.nn.functional.conv2d(cld.ones(2, 3, opt.size, opt.size):to(opt.device), weight)
  run:track { loss = 1 }
end
]]

devices.each("plans", function(device)
  if not cld.cuda.is_emulated() then return end

  local function convolve(size, options)
    local x <close> = cld.ones(1, 2, size, size, { device = device })
    local w <close> = cld.ones(4, 1, 3, 3, { device = device })
    cld.nn.functional.conv2d(x, w, nil, options):close()
  end

  local function plan_of(size)
    for _, plan in ipairs(cld.cuda.plans().plans) do
      if plan.x[3] == size then return plan end
    end
  end

  it("are told for each shape, with what it is", function()
    assert.is_nil(plan_of(41))
    convolve(41, { stride = 2, padding = 1, groups = 2 })
    assert.same({
      kind = "conv2d", dtype = "f32", tf32 = false, x = { 1, 2, 41, 41 }, w = { 4, 1, 3, 3 }, y = { 1, 4, 21, 21 },
      stride = { 2, 2 }, padding = { 1, 1 }, dilation = { 1, 1 }, groups = 2, alignment = 16, engine = 0, knobs = {},
    }, plan_of(41))
    assert.equal("loops on the host", cld.cuda.plans().library)
    local count = #cld.cuda.plans().plans
    convolve(41, { stride = 2, padding = 1, groups = 2 })
    assert.equal(count, #cld.cuda.plans().plans)
  end)

  it("that are given are told again before their shape is met, and chosen anew if they cannot be made", function()
    convolve(42, { groups = 2 })
    local plan = plan_of(42)
    plan.x, plan.y, plan.engine, plan.knobs = { 1, 2, 43, 43 }, { 1, 4, 41, 41 }, 7, { { 3, 1 }, { 40, -2 } }
    cld.cuda.use_plan(plan)
    assert.same(plan, plan_of(43))
    convolve(43, { groups = 2 })
    assert.equal(0, plan_of(43).engine) -- there is no engine 7 here
  end)

  it("of no such form are errors that name the field", function()
    convolve(44, { groups = 2 })
    local wrong = {
      kind = { false, "conv3d", 1 }, dtype = { false, "i64", 3 }, tf32 = { false, 1, "yes" },
      x = { false, 5, { 1, 2, 3 }, { 1, 2, 3, 0 }, { 1, 2, 3, 0.5 }, { 1, 2, 3, "4x" } }, y = { false, {} },
      w = { false, {} }, stride = { false, { 1 }, { 1, -1 }, { 1, 1 << 40 } }, padding = { false, { -1, 0 } },
      dilation = { false, "1" }, groups = { false, -1, 1.5 }, alignment = { false, {} }, engine = { false, -1, "a" },
      knobs = { false, 3, { 1 }, { { 1 } }, { { "a", 1 } } },
    }
    for field, values in pairs(wrong) do
      for _, value in ipairs(values) do
        local plan = plan_of(44)
        plan[field] = value or nil
        check.fails(function() cld.cuda.use_plan(plan) end,
          ("use_plan: '%s' is missing or wrong in the plan"):format(field))
      end
    end
    check.fails(function() cld.cuda.use_plan(7) end, "table expected")
    local many = plan_of(44)
    for i = 1, 49 do many.knobs[i] = { i, 1 } end
    check.fails(function() cld.cuda.use_plan(many) end, "use_plan: 'knobs'")
  end)

  describe("in the run's folder", function()
    local folder, script
    before_each(function()
      folder = process.temporary_folder()
      script = process.write(folder .. "/example.lua", recipe)
    end)
    after_each(function() process.remove(folder) end)

    local function train(...)
      local result = process.run {
        script, "--runs", folder, "--name", "run", "--threads", "1", "--device", device, ...,
      }
      assert.equal(0, result.code, result.out .. result.err)
      assert.equal("", result.err)
      return result.out
    end
    local function file() return folder .. "/run/plans-host-emulation.json" end
    local function stored() return cld.json.decode(process.read(file())) end

    it("are kept with the checkpoint, used by a resumed run, and those of new shapes added", function()
      assert.not_matches("plans", train())
      assert.equal("loops on the host", stored().library)
      assert.equal(1, #stored().plans)
      local other = stored()
      other.plans[1].x[1] = 77 -- of a shape that this run does not meet
      process.write(file(), cld.json.encode(other))
      assert.not_matches("plans", train("--resume", "--epochs", "2", "--size", "6"))
      assert.same({ 77, 2 }, { stored().plans[1].x[1], stored().plans[2].x[1] })
      assert.equal(6, stored().plans[2].x[3])
    end)

    it("that cannot be made any more are chosen anew, and a line says how many", function()
      train()
      local gone = stored()
      gone.plans[1].engine = 7
      process.write(file(), cld.json.encode(gone))
      assert.matches("\n1 of the run's convolutions cannot be computed as before, and were chosen anew\n",
        train("--resume", "--epochs", "2"))
      assert.equal(0, stored().plans[1].engine)
      assert.not_matches("chosen anew", train("--resume", "--epochs", "3"))
    end)

    it("of another chip are not used: a line says so, and they stay", function()
      train()
      os.rename(file(), folder .. "/run/plans-nvidia-h200.json")
      assert.matches("run/plans%-nvidia%-h200.json is not used, convolutions are chosen anew: it is for another chip\n",
        train("--resume", "--epochs", "2"))
      assert.equal(1, #stored().plans)
      assert.equal("file", cld.io.exists(folder .. "/run/plans-nvidia-h200.json"))
      assert.not_matches("plans", train("--resume", "--epochs", "3"))
    end)

    it("are taken over before anything is computed", function()
      process.write(script, (recipe:gsub("for epoch in",
        "cld.nn.functional.conv2d(cld.ones(2, 3, 9, 9):to(opt.device), weight)\n%0")))
      train()
      local given = stored()
      assert.same({ 9, 5 }, { given.plans[1].x[3], given.plans[2].x[3] })
      given.plans[1].engine, given.plans[2].engine = 1, 1
      process.write(file(), cld.json.encode(given))
      assert.not_matches("plans", train("--resume", "--epochs", "2"))
      assert.same({ 1, 1 }, { stored().plans[1].engine, stored().plans[2].engine })
    end)

    it("are not mistaken for those of what was computed before the run was resumed", function()
      process.write(script, (recipe:gsub("local run = ", [[
        local x, w = cld.ones(2, 3, opt.size + 4, 9):to(opt.device), cld.ones(4, 3, 3, 3):to(opt.device)
        cld.nn.functional.conv2d(x, w)
        %0]])))
      train()
      assert.not_matches("chosen anew", train("--resume", "--epochs", "2", "--size", "6"))
      assert.not_matches("chosen anew", train("--resume", "--epochs", "3", "--size", "7"))
      assert.equal(6, #stored().plans)
    end)

    it("of another library are not used: a line says so", function()
      train()
      local other = stored()
      other.library, other.plans[1].x[1] = "cuDNN 9.1.0", 77
      process.write(file(), cld.json.encode(other))
      assert.matches("plans%-host%-emulation.json is not used, convolutions are chosen anew: it is for cuDNN 9.1.0,"
        .. " and this is loops on the host\n", train("--resume", "--epochs", "2"))
      assert.equal(1, #stored().plans)
      assert.equal(2, stored().plans[1].x[1])
    end)

    it("in a damaged file are not used, and single ones that are damaged: a line says so", function()
      train()
      local whole = process.read(file())
      for damaged, said in pairs {
        [""] = " is not used, .*: damaged file: ", [whole:sub(1, #whole // 2)] = " is not used, .*: damaged file: ",
        ["[]"] = " is not used, .*: it holds no plans", ["3"] = " is not used, ", ["null"] = " is not used, ",
        [whole:gsub('"engine": *0', '"engine": -4')] = ": 1 of 1 plans cannot be read %(use_plan: 'engine' is missing",
      } do
        process.write(file(), damaged)
        assert.matches("plans%-host%-emulation.json" .. said, train "--resume")
      end
      train("--resume", "--epochs", "2")
      assert.equal(0, stored().plans[1].engine)
    end)

    it("are none on the cpu", function()
      local result = process.run { script, "--runs", folder, "--name", "run", "--threads", "1", "--device", "cpu" }
      assert.equal(0, result.code)
      assert.is_nil(cld.io.exists(file()))
    end)
  end)
end)

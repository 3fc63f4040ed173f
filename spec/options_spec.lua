--- Options: types, ranges, messages, --help; in this process and as a user types them.
local cld = require "cld"
local check = require "spec.support.check"
local process = require "spec.support.process"

local function declarations()
  return {
    about = "An example",
    { "epochs",      200,      "training epochs", min = 1, integer = true },
    { "batch-size",  256,      "images per step", min = 2, max = 1024, integer = true },
    { "lr",          0.03,     "learning rate", above = 0 },
    { "schedule",    "cosine", "learning rate over time", choices = { "cosine", "step" } },
    { "norm-linear", true,     "NormLinear heads" },
    { "erase",       false,    "random erasing" },
    { "at",          "2,4",    "epochs", value = "integers" },
    { "rates",       "1,0.1",  "to try", value = "numbers", above = 0 },
    cld.options.training,
  }
end

local function parse(...) return cld.options(declarations(), { ... }) end

describe("options.peek", function()
  local few = { { "data", "./data", "folder" }, { "size", 224, "pixels", integer = true }, { "fast", false, "or not" },
    { "resume", false, "a run", value = "optional" } }
  local function peek(...) return cld.options.peek({ about = "x", few }, { ... }) end

  it("reads those that it knows among others", function()
    local opt, given = peek("--lr", "0.5", "--data", "photos", "--no-winograd", "--size=32", "--fast", "--name", "x")
    assert.same({ data = "photos", size = 32, fast = true, resume = false }, opt)
    assert.same({ data = true, size = true, fast = true }, given)
  end)

  it("takes an optional value only if one follows", function()
    assert.is_true(peek("--resume", "--size", "32").resume)
    assert.equal("runs/a", peek("--resume", "runs/a").resume)
  end)

  it("reads no options after --", function()
    assert.equal(224, peek("--", "--size", "32").size)
  end)

  it("tells a flag that is turned off from one that is not given", function()
    local opt, given = peek "--no-fast"
    assert.is_false(opt.fast)
    assert.is_true(given.fast)
  end)

  it("refuses a wrong value", function()
    local ok, problem = pcall(peek, "--size", "large")
    assert.is_false(ok)
    assert.equal("option '--size': expected an integer, got 'large'", tostring(problem))
  end)

  it("does not use up the defaults of the next cld.options", function()
    cld.options.defaults { epochs = 7 }
    peek()
    assert.equal(7, parse().epochs)
  end)
end)

describe("options.further", function()
  it("are options of the next cld.options alone", function()
    cld.options.further { { "minutes", 5, "of time" } }
    assert.equal(3, parse("--minutes", "3").minutes)
    assert.is_false(pcall(parse, "--minutes", "3"))
  end)

  it("may have a default from options.defaults", function()
    cld.options.further { { "minutes", 5, "of time" } }
    cld.options.defaults { minutes = 8 }
    assert.equal(8, parse().minutes)
  end)
end)

describe("options", function()
  it("have the declared defaults", function()
    local opt = parse()
    assert.same({ 200, 256, 0.03, "cosine", true, false }, { opt.epochs, opt.batch_size, opt.lr, opt.schedule,
      opt.norm_linear, opt.erase })
    assert.equal("integer", math.type(opt.epochs))
    assert.is_false(opt.resume)
  end)

  it("take the type of their default", function()
    local opt = parse("--epochs", "3", "--lr=1", "--schedule", "step", "--no-norm-linear", "--erase", "--name", "x")
    assert.same({ 3, 1.0, "step", false, true, "x" }, { opt.epochs, opt.lr, opt.schedule, opt.norm_linear, opt.erase,
      opt.name })
    assert.equal("float", math.type(opt.lr))
    assert.same({ true, false }, { parse "--erase=true".erase, parse "--norm-linear=false".norm_linear })
    assert.same({ true, false }, { parse("--erase", "true").erase, parse("--norm-linear", "false").norm_linear })
    assert.equal("-foo", parse "--name=-foo".name)
    assert.same({ 1, 20, 300 }, cld.options.integers(parse("--at", "1, 20,300").at))
    assert.is_true(parse "--resume".resume)
    assert.equal("runs/x", parse("--resume", "runs/x").resume)
    assert.equal(5, cld.options(declarations(), { epochs = 5 }).epochs)
    assert.equal(1e-3, cld.options({ { "x", 0.5, "", min = -1 } }, { "--x", "1e-3" }).x)
    assert.equal(-1, cld.options({ { "x", 0.5, "", min = -1 } }, { "--x", "-1" }).x)
  end)

  it("take a number with a fraction and one without alike", function()
    for _, default in ipairs { 1, 1.0, 0.5 } do
      local function given(text) return cld.options({ { "lr", default, "" } }, { "--lr", text }).lr end
      assert.same({ 1, 0.5, -2 }, { given "1", given "0.5", given "-2" })
      assert.same({ "1", "1.0" }, { tostring(given "1"):sub(1, 1), tostring(given "1" / 1) })
    end
  end)

  it("take of numbers, too, the choices alone", function()
    local list = { { "parts", 2, "so many", choices = { 1, 2 } } }
    assert.equal(1, cld.options(list, { parts = "1.0" }).parts)
    check.fails(function() cld.options(list, { "--parts", "3" }) end,
      "option '%-%-parts': expected one of 1, 2, got '3'")
  end)

  it("make a number without a fraction what the default is written as", function()
    local function kind(default, text) return math.type(cld.options({ { "x", default, "" } }, { "--x", text }).x) end
    assert.same({ "integer", "integer", "float" }, { kind(3, "1"), kind(3, "1.0"), kind(3, "1.5") })
    assert.same({ "float", "float" }, { kind(0.5, "1"), kind(1.0, "1") })
  end)

  it("make a list of numbers", function()
    assert.same({ 1, 0.1 }, cld.options.numbers(parse().rates))
    assert.same({ 5, 1e-3 }, cld.options.numbers(parse("--rates", "5, 1e-3").rates))
    assert.same({ 0.5 }, cld.options.numbers(cld.options(declarations(), { rates = 0.5 }).rates))
  end)

  it("take what stands beside them if that is declared", function()
    local list = { { "runs", {}, "folders", value = "arguments" }, { "top", 3, "so many", integer = true } }
    local opt = cld.options(list, { "a", "--top", "2", "b/c" })
    assert.same({ { "a", "b/c" }, 2 }, { opt.runs, opt.top })
    assert.same({}, cld.options(list, {}).runs)
    check.fails(function() cld.options(list, { "--runs", "a" }) end, "unknown option '%-%-runs'")
  end)

  it("take what stands after -- beside them, whatever it begins with", function()
    local list = { { "runs", {}, "folders", value = "arguments" }, { "top", 3, "so many", integer = true } }
    local opt = cld.options(list, { "a", "--top", "2", "--", "-x", "--top", "9", "--" })
    assert.same({ { "a", "-x", "--top", "9", "--" }, 2 }, { opt.runs, opt.top })
  end)

  it("take one word beside them if one is declared", function()
    local list = { { "folder", "", "folder", value = "argument" }, { "top", 3, "so many", integer = true } }
    assert.equal("-x", cld.options(list, { "--top", "2", "--", "-x" }).folder)
    assert.equal("", cld.options(list, {}).folder)
    check.fails(function() cld.options(list, { "a", "--top", "2", "b" }) end, "unexpected argument 'b'")
  end)

  it("raise for a name that was not declared", function()
    check.fails(function() return parse().qqzzx end, "options_spec.lua:%d+: no option 'qqzzx' is declared$")
  end)

  it("name the nearest that was declared", function()
    check.fails(function() return parse().epoch end, "no option 'epoch' is declared; did you mean 'epochs'%?$")
  end)

  local refused = {
    { { "--epoch", "3" }, "unknown option '%-%-epoch'; did you mean '%-%-epochs'%?" },
    { { "--batchsize=3" }, "'%-%-batchsize'; did you mean '%-%-batch%-size'%?" },
    { { "--entirely-different" }, "unknown option '%-%-entirely%-different' %(%-%-help" },
    { { "--epochs", "0" }, "'%-%-epochs': expected an integer of at least 1, got '0'" },
    { { "--epochs", "2.5" }, "expected an integer of at least 1, got '2.5'" },
    { { "--epochs", "many" }, "got 'many'" },
    { { "--epochs" }, "option '%-%-epochs' requires an argument" },
    { { "--batch-size", "5000" }, "expected an integer from 2 to 1024, got '5000'" },
    { { "--lr", "0" }, "expected a number above 0, got '0'" },
    { { "--lr", "-0.1" }, "expected a number above 0, got '%-0.1'" },
    { { "--lr", "nan" }, "got 'nan'" },
    { { "--lr", "1e999" }, "got '1e999'" },
    { { "--schedule", "linear" }, "'%-%-schedule': expected one of cosine, step, got 'linear'" },
    { { "--erase=yes" }, "'%-%-erase': expected true or false, got 'yes'" },
    { { "--erase", "no" }, "'%-%-erase': expected true or false, got 'no'" },
    { { "--batch", "3" }, "'%-%-batch'; did you mean '%-%-batch%-size'%?" },
    { { "-epochs", "3" }, "unknown option '%-epochs'; did you mean '%-%-epochs'%?" },
    { { "-e" }, "unknown option '%-e' %(%-%-help" },
    { { "--name", "-foo" }, "'%-%-name': the value '%-foo' begins with '%-'; %-%-name=%-foo gives it" },
    { { "--lr", "-inf" }, "expected a number above 0, got '%-inf'" },
    { { "--runs", "" }, "'%-%-runs': expected a text that is not empty, got ''" },
    { { "--at", "" }, "'%-%-at': expected ascending integers of at least 1, such as 120,160, got ''" },
    { { "--at", "5,5" }, "expected ascending integers .* got '5,5'" },
    { { "--at", "0" }, "expected ascending integers .* got '0'" },
    { { "--at", "1.5" }, "expected ascending integers .* got '1.5'" },
    { { "--rates", "" }, "expected different numbers, each above 0, separated by commas, got ''" },
    { { "--rates", "1,0" }, "expected different numbers, each above 0, .* got '1,0'" },
    { { "--rates", "1,1.0" }, "got '1,1.0'" },
    { { "--rates", "1 2" }, "got '1 2'" },
    { { "--rates", "-1" }, "got '%-1'" },
    { { "stray" }, "unexpected argument 'stray'" },
    { { "--", "--lr" }, "unexpected argument '%-%-lr'" },
    { { lr = "fast" }, "expected a number above 0, got 'fast'" },
    { { erase = 1 }, "expected true or false, got '1'" },
    { { speed = 1 }, "no option 'speed' is declared" },
  }
  for _, case in ipairs(refused) do
    it("refuse " .. (case[1][1] and table.concat(case[1], " ") or next(case[1]) .. " = ..."), function()
      local message = check.fails(function() cld.options(declarations(), case[1]) end, case[2])
      assert.is_nil(message:find "\n")
    end)
  end

  describe("that need others", function()
    local list = {
      { "gamma", 0.1, "factor", needs = { "schedule", "step", "steps" } },
      { "schedule", "cosine", "rate", choices = { "cosine", "step", "steps" } },
      { "mirror", "", "address", needs = { "fetch", true } }, { "fetch", false, "fetch" },
      { "every", 5, "seconds", needs = { "once", false } }, { "once", false, "once" },
      { "resume", false, "a run", value = "optional" },
    }

    it("are refused where they have no effect", function()
      check.fails(function() cld.options(list, { "--gamma", "0.5" }) end,
        "option '%-%-gamma' has no effect with %-%-schedule cosine; it needs %-%-schedule step or steps$")
      check.fails(function() cld.options(list, { "--mirror", "x" }) end,
        "option '%-%-mirror' has no effect without %-%-fetch$")
      check.fails(function() cld.options(list, { "--once", "--every", "2" }) end,
        "option '%-%-every' has no effect with %-%-once$")
    end)

    it("are taken with these, and are no fault where they are not given", function()
      local opt = cld.options(list,
        { "--gamma", "0.5", "--schedule", "steps", "--mirror", "x", "--fetch", "--every", "2" })
      assert.same({ 0.5, "x", 2 }, { opt.gamma, opt.mirror, opt.every })
      assert.equal(0.1, cld.options(list, { "--once" }).gamma)
    end)

    it("are left to the run that is resumed, which knows the others", function()
      assert.equal(0.5, cld.options(list, { "--gamma", "0.5", "--resume" }).gamma)
    end)
  end)

  it("refuse bad declarations", function()
    check.fails(function() cld.options({ { "a", 1, "" }, { "a", 2, "" } }, {}) end, "'a' is declared twice")
    check.fails(function() cld.options({ "a" }, {}) end, "entry 1 is a string")
    check.fails(function() cld.options({ { "a", 0.5, "", integer = true } }, {}) end,
      "options: 'a': integer = true, and the default is 0.5")
    check.fails(function() cld.options({ { "a", "b", "", integer = true } }, {}) end,
      "options: 'a': integer = true is of numbers")
    check.fails(function() cld.options({ { "a", 5, "", max = 3 } }, {}) end,
      "options: 'a': the default is 5; expected a number of at most 3")
    check.fails(function() cld.options({ { "a", "z", "", choices = { "x", "y" } } }, {}) end,
      "options: 'a': the default is z; expected one of x, y")
    check.fails(function() cld.options({ { "a", 5, "", int = true } }, {}) end,
      "options: 'a': unknown field 'int'; known fields:")
  end)

  it("can be given other defaults, once", function()
    cld.options.defaults { epochs = 7, lr = 1 }
    local opt = parse()
    assert.same({ 7, 1.0 }, { opt.epochs, opt.lr })
    assert.equal(200, parse().epochs)
    cld.options.defaults { epochs = 8 }
    cld.options.defaults { epochs = 9, lr = 2 } -- of a recipe that the first one runs
    opt = parse()
    assert.same({ 8, 2.0 }, { opt.epochs, opt.lr })
    cld.options.defaults { epoch = 7 }
    check.fails(parse, "defaults: no option 'epoch'")
    assert.equal(200, parse().epochs)
  end)

  describe("on the command line", function()
    local folder, script
    setup(function()
      folder = process.temporary_folder()
      script = process.write(folder .. "/recipe.lua", [[
        local cld = require "cld"
        local opt = cld.options { about = "An example", { "epochs", 200, "training epochs", min = 1,
          integer = true }, { "rate", 1, "how fast" }, { "erase", true, "random erasing" },
          { "images", {}, "folders", value = "arguments" }, cld.options.training }
        print(opt.epochs, opt.erase)]])
    end)
    teardown(function() process.remove(folder) end)

    it("are listed by --help with their defaults", function()
      local result = process.run { script, "--help" }
      assert.equal(0, result.code)
      assert.matches("usage: cldlua recipe%.lua %[options%] IMAGES%.%.%.\n", result.out)
      assert.matches("\n +IMAGES +folders\n", result.out)
      assert.matches("%-%-rate <number> +how fast %(default: 1%)", result.out)
      assert.matches("%-%-epochs <integer> +training epochs %(at least 1; default: 200%)", result.out)
      assert.matches("%-%-erase +random erasing %(default: yes; %-%-no%-erase turns it off%)", result.out)
      for _, declaration in ipairs(cld.options.training) do
        assert.truthy(result.out:find("--" .. declaration[1], 1, true))
      end
    end)

    it("end the program with one line and status 1 where they are wrong", function()
      local result = process.run { script, "--epoch", "3" }
      assert.equal(1, result.code)
      assert.equal("", result.out)
      assert.matches("^[^\n]*unknown option '%-%-epoch'; did you mean '%-%-epochs'%?[^\n]*\n$", result.err)
    end)

    it("are taken where they are right", function()
      local result = process.run { script, "--epochs", "3", "--no-erase" }
      assert.equal(0, result.code)
      assert.equal("3\tfalse\n", result.out)
    end)
  end)
end)

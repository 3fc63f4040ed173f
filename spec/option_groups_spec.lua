--- The named groups of options; and the CIFAR recipes' options and defaults, which are the same as before there were
-- groups.
local cld = require "cld"
local check = require "spec.support.check"
local process = require "spec.support.process"

-- What cld.options makes of a list of declarations: {field = default}.
local function defaults(...)
  local plain = {}
  for field, value in pairs(cld.options({ ... }, {})) do plain[field] = value end
  return plain
end

describe("a group of options", function()
  it("is a list of declarations", function()
    assert.same({ nce_t = 0.1, nce_k = 0, nce_m = 0.5, fill_epochs = 0 }, defaults(cld.options.npid))
  end)

  it("may be empty", function() assert.same({ nce = 1 }, defaults({}, { "nce", 1, "" })) end)

  it("called has other defaults, of the declared types", function()
    local given = defaults(cld.options.cld { clusters = 200, lambda = 2, cld_t = 0.4 })
    assert.same({ lambda = 2.0, grouping = "kmeans", clusters = 200, iterations = 5, eigenvectors = 0, cld_t = 0.4,
      detach_centroids = false }, given)
    assert.equal("float", math.type(given.lambda))
  end)

  it("called stays as it was itself", function()
    local _ = cld.options.cld { clusters = 200 }
    assert.equal(128, defaults(cld.options.cld).clusters)
  end)

  it("keeps ranges and choices when it is called", function()
    check.fails(function() cld.options({ cld.options.cld { clusters = 200 } }, { "--clusters", "0" }) end,
      "option '%-%-clusters': expected an integer from 1 to 65536, got '0'")
  end)

  it("can be called twice", function()
    local given = defaults(cld.options.cld { clusters = 200 } { lambda = 0.5 })
    assert.same({ 200, 0.5 }, { given.clusters, given.lambda })
  end)

  it("takes the defaults of options.defaults over its own", function()
    cld.options.defaults { clusters = 100 }
    assert.equal(100, defaults(cld.options.cld { clusters = 200 }).clusters)
  end)

  it("refuses a default that it does not declare", function()
    check.fails(function() cld.options.cld { cluster = 3 } end,
      "options: the group has no 'cluster'; did you mean 'clusters'%?")
  end)

  it("refuses to fix what it does not declare", function()
    check.fails(function() cld.options.cld:fixed { cluster = "why" } end,
      "options: the group has no 'cluster'; did you mean 'clusters'%?")
  end)

  it("refuses a default out of range", function()
    check.fails(function() cld.options.cld { clusters = 0 } end,
      "options: the default 'clusters' is 0; expected an integer from 1 to 65536")
  end)
end)

-- ---- the recipes --------------------------------------------------------------

-- What --help said of each option when the recipes listed all of theirs: its name, what it takes, range and default.
local common = {
  "--download (default: no, --no-download)",
  "--mirror <text>",
  "--arch {resnet18,resnet34,resnet50} (default: resnet18)",
  "--cld-t <number> (above 0; default: 0.2)",
  "--data <text> (default: ./data)",
  "--detach-centroids (default: no, --no-detach-centroids)",
  "--device <device> (default: auto)",
  "--eigenvectors <integer> (from 0 to 65536; default: 0)",
  "--epochs <integer> (from 1 to 1000000; default: 200)",
  "--gamma <number> (at least 0; default: 0.1)",
  "--graph (default: yes; --no-graph turns it off)",
  "--grouping {kmeans,ncut} (default: kmeans)",
  "--iterations <integer> (from 1 to 1000; default: 5)",
  "--knn-every <integer> (at least 0; default: 1)",
  "--knn-k <integer> (at least 1; default: 200)",
  "--knn-t <number> (above 0; default: 0.1)",
  "--layout {auto,python,binary} (default: auto)",
  "--low-dim <integer> (from 1 to 65536; default: 128)",
  "--lr <number> (above 0; default: 0.03)",
  "--lr-at <integer> (from 0 to 1048576; default: 128)",
  "--lr-min <number> (at least 0; default: 1e-06)",
  "--milestones <integers> (default: 120,160)",
  "--momentum <number> (from 0 to 1; default: 0.9)",
  "--name <text>",
  "--precision {auto,fp32,tf32,bf16,fp16} (default: auto)",
  "--print-every <integer> (at least 0; default: 10)",
  "--print-ranks (default: no, --no-print-ranks)",
  "--keep-checkpoints <integer> (from 0 to 1000000; default: 0)",
  "--report (default: yes; --no-report turns it off)",
  "--resume [<path>]",
  "--runs <text> (default: runs)",
  "--save-every <integer> (from 1 to 1000000; default: 1)",
  "--schedule {cosine,cosine-epochs,infomin,step} (default: cosine)",
  "--seed <integer> (at least 0; default: 1)",
  "--tensorboard (default: no, --no-tensorboard)",
  "--threads <integer> (at least 0; default: 0)",
  "--timeout <integer> (at least 0; default: 600)",
  "--warmup-epochs <integer> (at least 0; default: 5)",
  "--warmup-factor <integer> (at least 0; default: 100)",
  "--width <integer> (from 1 to 4096; default: 64)",
  "--winograd (default: yes; --no-winograd turns it off)",
  "--workers <integer> (from 0 to 256; default: 1)",
}

local own = {}
own.cifar10_npid_cld = {
  "--augment {base,plus} (default: base)",
  "--batch-size <integer> (from 2 to 65536; default: 256)",
  "--clusters <integer> (from 1 to 65536; default: 128)",
  "--dataset {cifar10,cifar100} (default: cifar10)",
  "--erasing (default: no, --no-erasing)",
  "--fill-epochs <integer> (at least 0; default: 0)",
  "--lambda <number> (at least 0; default: 1.0)",
  "--nce-k <integer> (from 0 to 1048576; default: 0)",
  "--nce-m <number> (from 0 to 1; default: 0.5)",
  "--nce-t <number> (above 0; default: 0.1)",
  "--norm-linear (default: no, --no-norm-linear)",
  "--weight-decay <number> (at least 0; default: 0.0007)",
}
own.cifar100_npid_cld = {
  "--augment {base,plus} (default: base)",
  "--batch-size <integer> (from 2 to 65536; default: 256)",
  "--clusters <integer> (from 1 to 65536; default: 200)",
  "--dataset {cifar10,cifar100} (default: cifar100)",
  "--erasing (default: no, --no-erasing)",
  "--fill-epochs <integer> (at least 0; default: 0)",
  "--lambda <number> (at least 0; default: 1.0)",
  "--nce-k <integer> (from 0 to 1048576; default: 0)",
  "--nce-m <number> (from 0 to 1; default: 0.5)",
  "--nce-t <number> (above 0; default: 0.1)",
  "--norm-linear (default: no, --no-norm-linear)",
  "--weight-decay <number> (at least 0; default: 0.0007)",
}
own.cifar10_moco_cld = {
  "--augment {base,plus} (default: plus)",
  "--batch-size <integer> (from 2 to 65536; default: 256)",
  "--clusters <integer> (from 1 to 65536; default: 200)",
  "--dataset {cifar10,cifar100} (default: cifar10)",
  "--erasing (default: yes; --no-erasing turns it off)",
  "--lambda <number> (at least 0; default: 0.8)",
  "--moco-m <number> (from 0 to 1; default: 0.999)",
  "--moco-t <number> (above 0; default: 0.07)",
  "--norm-linear (default: yes; --no-norm-linear turns it off)",
  "--queue <integer> (from 1 to 16777216; default: 12288)",
  "--weight-decay <number> (at least 0; default: 0.0008)",
}
own.cifar100_moco_cld = {
  "--augment {base,plus} (default: base)",
  "--batch-size <integer> (from 2 to 65536; default: 128)",
  "--clusters <integer> (from 1 to 65536; default: 100)",
  "--dataset {cifar10,cifar100} (default: cifar100)",
  "--erasing (default: no, --no-erasing)",
  "--lambda <number> (at least 0; default: 0.25)",
  "--moco-m <number> (from 0 to 1; default: 0.999)",
  "--moco-t <number> (above 0; default: 0.07)",
  "--norm-linear (default: yes; --no-norm-linear turns it off)",
  "--queue <integer> (from 1 to 16777216; default: 4096)",
  "--weight-decay <number> (at least 0; default: 0.0007)",
}

-- The options in the text of --help, in the same form, sorted.
local function listed(help)
  local found = {}
  help = help:gsub("\n          +", " ") -- an entry a line
  for entry in help:gmatch "\n +(%-%-[^\n]+)" do
    local name, rest = entry:match "^(%-%-[%a-]+)(.*)$"
    local takes = rest:match "^ (%[?[<{][^ ]*)"
    local facts = rest:match "(%([^()]*%))%s*$"
    found[#found + 1] = name .. (takes and " " .. takes or "") .. (facts and " " .. facts:gsub("%s+", " ") or "")
  end
  table.sort(found)
  return found
end

describe("the recipes' options are what they were:", function()
  for recipe, some in pairs(own) do
    it(recipe, function()
      local expected = table.move(some, 1, #some, #common + 1, table.move(common, 1, #common, 1, {}))
      table.sort(expected)
      local result = process.run { "recipes/" .. recipe .. ".lua", "--help" }
      assert.equal(0, result.code, result.err)
      assert.same(expected, listed(result.out))
    end)
  end
end)

--- Run by norm_ranks_spec.lua under cldlua-ranks: batch norm of a batch whose blocks span ranks, compared with one
-- process. `norm_ranks.lua LIBRARY DEVICE DTYPE` prints a line for each case and result: its name, a tab, and the
-- largest difference relative to 1 + the largest value.
local ranks = assert(package.loadlib(arg[1], "luaopen_ranks"))()
local device, dtype = arg[2], arg[3]
local cld = require "cld"
local formula = require "spec.support.formula"
local nn = cld.nn.functional

local images, views = 11, 2
local vectors = dtype == "f64" and "f64" or "f32"

local function uniform(name, shape, kind) return formula.uniform(name, shape, kind):to(device) end

-- Blocks of 4, 4, 3 images: the cuts between ranks are inside blocks, one rank has a whole block, one block is on all
-- ranks.
local cuts = { { 0, 5, 11 }, { 0, 3, 6, 11 }, { 0, 1, 10, 11 } }
local every = { 0, 1, 2, 3, 4, 5, 6, 7 } -- bits: relu, residual, two terms
-- Blocked and row-major layouts on the cpu, a single position; several chunks, fewer in a rank's first part than later.
local cases = {
  { channels = 5, size = { 3, 3 }, of = 3, cuts = cuts, hows = every },
  { channels = 32, size = { 4, 3 }, of = 1, cuts = cuts, hows = { 0, 3, 5, 6 } },
  { channels = 16, size = { 1, 1 }, of = 3, unit = 2, cuts = cuts, hows = { 0, 7 } },
  { channels = 16, size = { 24, 25 }, of = 2, cuts = { cuts[1] }, hows = { 1, 6 } },
}

-- The rows of images [from, to) in each view.
local function rows_of(x, from, to, unit)
  local list = {}
  for view = 0, views - 1 do list[view + 1] = x:narrow(1, (view * images + from) * unit + 1, (to - from) * unit) end
  return cld.cat(list, 1)
end

-- The parts of images [from, to): the blocks that contain some of them.
local function parts_of(case, from, to)
  local cut = { blocks = case.of }
  local first, last
  for block = 0, case.of - 1 do
    local begin, finish = nn.part_begin(cut, images, block), nn.part_begin(cut, images, block + 1)
    if begin < to and finish > from then first, last = first or block, block end
  end
  return { views = views, unit = case.unit, blocks = last - first + 1,
    images = images, begin = from, of = case.of, first = first }
end

-- What one process computes from these rows. With two terms the output is used twice, so that its gradient is a sum.
local function compute(case, given, parts, how, backward)
  local c = case.channels
  local t = { mean = uniform("mean", { c }, vectors), var = uniform("var", { c }, vectors) + 2,
    count = cld.zeros({}, { dtype = "i64", device = device }) }
  local x, w, b = given.x:detach():requires_grad_(), uniform("w", { c }, vectors):requires_grad_(),
    uniform("b", { c }, vectors):requires_grad_()
  local r = how.residual and given.r:detach():requires_grad_() or nil
  t.y = nn.batch_norm(x, w, b, t.mean, t.var, { training = true, momentum = 0.3, eps = 1e-3, relu = how.relu,
    residual = r, num_batches_tracked = t.count, parts = parts })
  if backward then
    local loss = (t.y * given.dy):sum()
    if how.terms then loss = loss + t.y:square():sum() * 0.25 end
    loss:backward()
  end
  t.y, t.dx, t.dw, t.db, t.dr = t.y:detach(), x.grad, w.grad, b.grad, r and r.grad
  return t
end

-- The same with ranks, between which the images are cut there: each rank's results at the end.
local function by_ranks(case, given, cut, how)
  local last
  for pass = 0, 2 do
    last = {}
    for rank = 1, #cut - 1 do
      local from, to, mine = cut[rank], cut[rank + 1], {}
      for name, x in pairs(given) do mine[name] = rows_of(x, from, to, case.unit or 1) end
      ranks.start(pass)
      last[rank] = compute(case, mine, parts_of(case, from, to), how, pass > 0)
      assert(ranks.calls() == (pass > 0 and 2 or 1))
    end
  end
  ranks.forget()
  return last
end

local function report(name, what, actual, expected)
  local a, e = actual:to "f64", expected:to "f64"
  print(("%s: %s\t%.17g"):format(name, what, ((a - e):abs():amax() / (1 + e:abs():amax())):item()))
end

local function compare(name, case, given, cut, how)
  local one = compute(case, given, { views = views, blocks = case.of, unit = case.unit }, how, true)
  local list, dw, db = by_ranks(case, given, cut, how), 0, 0
  for rank, t in ipairs(list) do
    for _, what in ipairs { "y", "dx", "dr" } do
      if one[what] then
        report(name, what, t[what], rows_of(one[what], cut[rank], cut[rank + 1], case.unit or 1))
      end
    end
    for _, what in ipairs { "mean", "var", "count" } do report(name, what, t[what], one[what]) end
    dw, db = dw + t.dw, db + t.db
  end
  report(name, "dw", dw, one.dw)
  report(name, "db", db, one.db)
end

for _, case in ipairs(cases) do
  local shape = { views * images * (case.unit or 1), case.channels, case.size[1], case.size[2] }
  local given = { x = (uniform("x", shape, vectors) * 2 + 1):to(dtype), r = uniform("r", shape, vectors):to(dtype),
    dy = uniform("dy", shape, vectors):to(dtype) }
  for _, cut in ipairs(case.cuts) do
    for _, bits in ipairs(case.hows) do
      local how = { relu = bits & 1 ~= 0, residual = bits & 2 ~= 0, terms = bits & 4 ~= 0 }
      local name = ("%s in %d blocks, cut at %s%s%s%s"):format(table.concat(shape, "x"), case.of,
        table.concat(cut, " "), how.relu and ", relu" or "", how.residual and ", residual" or "",
        how.terms and ", two terms" or "")
      compare(name, case, given, cut, how)
    end
  end
end

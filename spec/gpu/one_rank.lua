--- Part `ranks` of check.lua: after an epoch of captured steps, a job of one rank, which goes through every collective
-- of NCCL and MPI, gives the same bits as no job. The method is MoCo v2 + CLD, once with blocks inside the rank, and
-- once with one block that is the whole batch, so that each batch norm sums over the ranks.
local ranks = require "spec.support.ranks"

local JOB = "env CLD_JOB_OF_ONE=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun -n 1 "
local PROBE = "local cld = require 'cld'; cld.dist.all_reduce(cld.ones(1, {device = 'cuda'})); print(cld.dist.alone)"

-- What a job's output says if this machine lacks something for a job, and what that is.
local lacks = {
  { "which was built without MPI", "libcld_mpi.so, which make builds where Open MPI's mpicc is" },
  { "cannot load '[^\n]*libcld_mpi%.so'", "Open MPI's libraries" },
  { "needs NCCL %(libnccl%.so%.2%), which was not found", "libnccl.so.2" },
}

-- Returns what is missing, or nil; also the output of a first collective, and whether it worked.
local function probe(check)
  if not os.execute "command -v mpirun >/dev/null" then return "Open MPI's mpirun" end
  local text = check.read(check.limited(120, ('%s%q -e "%s"'):format(JOB, check.cldlua, PROBE)))
  for _, lack in ipairs(lacks) do
    if text:find(lack[1]) then return lack[2] end
  end
  return nil, text, text:find "false\n" ~= nil
end

local function compare(check, photos, block)
  local sizes, first = check.sizes, ("%s/block-%d"):format(check.runs, block)
  local said = {}
  local function train(launcher, words)
    local text, ok = check.read(check.limited(300, ("%s%q recipes/folder_mocov2_cld.lua %s --print-every 0")
      :format(launcher, check.cldlua, words)))
    said[#said + 1] = text
    return ok
  end
  os.execute(("rm -rf '%s' '%s-alone' '%s-job'"):format(first, first, first))
  local ok = train("", ("--data '%s' --size %d --augment base --runs '%s' --name block-%d --batch-size %d --block %d"
    .. " --dim 16 --small --queue %d --clusters 4 --width %d --epochs 1 --knn-every 0 --device cuda"):format(photos,
    sizes.pixels, check.runs, block, sizes.rows, block, 2 * sizes.rows, sizes.width))
  for _, way in ipairs { { "alone", "" }, { "job", JOB } } do -- both with the plans that the first epoch has chosen
    local name = first .. "-" .. way[1]
    ok = ok and os.execute(("cp -r '%s' '%s'"):format(first, name))
      and train(way[2], ("--resume '%s' --epochs 2"):format(name))
  end
  local compared, apart, at = pcall(ranks.difference, first .. "-alone/checkpoint.safetensors",
    first .. "-job/checkpoint.safetensors")
  check.count(("a job of one rank, blocks of %d of %d"):format(block, sizes.rows),
    ("%s\n%s: %s of %s"):format(table.concat(said), first, apart, at), ok and compared and apart == 0)
end

--- check: {cldlua, build, runs, read, limited, count} from check.lua, and sizes = {images, rows, pixels, width}.
return function(check)
  local missing, text, works = probe(check)
  if missing then
    print(("%-40s not run: no %s"):format("a job of one rank", missing))
    return
  end
  check.count("a collective of one rank", text, works)
  if not works then return end
  local photos = check.build .. "/toy-gpu-files"
  if not check.exists(photos) then
    check.read(("%q recipes/make_toy_data.lua --out '%s' --layout files --train %d --test 10 --least-side %d"
      .. " --most-side %d"):format(check.cldlua, photos, check.sizes.images, check.sizes.pixels,
      check.sizes.pixels * 3 // 2))
  end
  for _, parts in ipairs { 2, 1 } do compare(check, photos, check.sizes.rows // parts) end
end

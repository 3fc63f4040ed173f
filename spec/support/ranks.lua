--- Jobs of several ranks, run by the installed mpirun.
local cld = require "cld"
local process = require "spec.support.process"

local ranks = {}

-- Variables that an mpirun around the specs may have set; the jobs that they start must not see them.
local launchers = { "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMI_SIZE", "PMIX_RANK",
  "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "OMP_NUM_THREADS" }

--- nil, or the reason why no job can run here.
function ranks.missing()
  if not io.open(process.cldlua:match "^(.*)/" .. "/libcld_mpi.so") then return "this was built without MPI" end
  if not os.execute "command -v mpirun >/dev/null" then return "mpirun is not installed" end
end

--- Open MPI leaks memory in components that are unloaded before the check. So leaks of ranks are not reported;
-- everything else is.
function ranks.environment(given)
  local env = { ASAN_OPTIONS = (os.getenv "ASAN_OPTIONS" or "") .. ":detect_leaks=0" }
  for name, value in pairs(given or {}) do env[name] = value end
  return env
end

--- The result of `cldlua --ranks n ...`: code, out, err. With n = 1 it is not a job.
function ranks.run(n, options)
  local words = { unset = launchers, env = ranks.environment(options.env), timeout = options.timeout or 120 }
  if n > 1 then words[1], words[2] = "--ranks", tostring(n) end
  table.move(options, 1, #options, #words + 1, words)
  return process.run(words)
end

-- The result of mpirun itself.
local function mpirun(words, env)
  words.program, words.unset, words.timeout, words.env = "mpirun", launchers, 120, ranks.environment(env)
  words.env.OMPI_ALLOW_RUN_AS_ROOT, words.env.OMPI_ALLOW_RUN_AS_ROOT_CONFIRM = "1", "1"
  return process.run(words)
end

--- The result of a job of one rank, which goes through every collective (runtime/dist/dist.h).
function ranks.of_one(options)
  local words = { "-n", "1", process.cldlua }
  return mpirun(table.move(options, 1, #options, #words + 1, words), { CLD_JOB_OF_ONE = "1" })
end

--- The result of a job whose ranks have different values of the variable in their environments.
function ranks.with_variable(name, values, options)
  local words = { "--oversubscribe" }
  for i, value in ipairs(values) do
    local own = { "-n", "1", "-x", name .. "=" .. value, process.cldlua }
    if i > 1 then table.insert(own, 1, ":") end
    table.move(own, 1, #own, #words + 1, words)
    table.move(options, 1, #options, #words + 1, words)
  end
  return mpirun(words)
end

--- The output of a Lua script on rank 0, and with `err`, the error output of all ranks; the job must succeed.
function ranks.script(n, text)
  local folder = process.temporary_folder()
  local path = process.write(folder .. "/script.lua", "local cld = require 'cld'\nlocal dist = cld.dist\n" .. text)
  local result = ranks.run(n, { path })
  process.remove(folder)
  assert(result.code == 0, result.err)
  return result.out, result.err
end

--- The largest difference between two checkpoints' tensors, relative to the tensor's largest value (at least 1e-3), and
-- where it is.
function ranks.difference(a, b)
  local state, other = cld.load(a), cld.load(b)
  local worst, at = 0, "nothing"
  for name, x in pairs(state) do
    local y = assert(other[name], name)
    if x:numel() > 0 and not name:find "^meters%." then
      local apart = (x:double() - y:double()):abs():max():item() / math.max(1e-3, x:double():abs():max():item())
      if not (apart <= worst) then worst, at = apart, name end
    end
  end
  return worst, at
end

return ranks

--- Counts what a captured training step of NPID + CLD consists of, on the emulated device: its nodes, and the bytes
-- that our own kernels, copies and fills with zeros move in it, by kind and by kernel. No GPU is needed.
--
--   cldlua count.lua --build build            ResNet-18 of width 64, bf16, 2 x 256 images, a memory bank of 50000 rows
--
-- The nodes are those of the step at its full size, queued on a device that runs nothing (CLD_HOST_IDLE). Bytes are
-- counted for two small batches and extrapolated linearly, since arrays grow linearly. At the full size the memory bank
-- is processed in more chunks than with a small batch, but they move the same bytes in total.
--
-- The partial sums of batch norm do not grow linearly: from some size on, a larger batch is not cut into more blocks.
-- A block leaves two f32 for each of its channels, and the last block reads them. The emulated device does not see it
-- when a kernel reads what it has written itself. So for these kernels the partial sums of blocks that exist only in
-- the extrapolation are subtracted, and those of the real blocks are added to the bytes read.
--
-- A byte counts once for each kernel that reads it, and once for each that writes it.
local cld = require "cld"

local opt = cld.options {
  about = "Nodes and bytes of a captured training step, counted without a GPU",
  { "build",    "build", "where make built the program and the emulated device", nonempty = true },
  { "width",    64,      "channels of the first stage", min = 8, integer = true },
  { "bank",     50000,   "rows of the memory bank", min = 1, integer = true },
  { "clusters", 128,     "k-means groups", min = 1, integer = true },
  { "batch",    256,     "images of the step that is described", min = 2, integer = true },
  { "small",    4,       "images of one step that is counted; the other has twice as many", min = 2, integer = true },
  { "nodes",    false,   "count nodes alone" },
}

local function absolute(path) return path:sub(1, 1) == "/" and path or os.getenv "PWD" .. "/" .. path end

-- Each node of the step's replay, in order: {name, kind, read, written, blocks, partial}; partial: the bytes of partial
-- sums per block. `idle`: nothing is run, on a device with the memory of a large GPU.
local function nodes_of(batch, idle)
  local list = os.tmpname()
  local command = ("CLD_CUDA_PLUGIN='%s/libcld_cuda_host.so' CLD_HOST_TRAFFIC=1 CLD_HOST_LAUNCHES='%s' %s " ..
    "'%s/cldlua' spec/gpu/step.lua --device cuda --once --batch %d --width %d --bank %d --clusters %d"):format(
    absolute(opt.build), list, idle and "CLD_HOST_IDLE=1 CLD_HOST_MEMORY=141000000000" or "", opt.build, batch,
    opt.width, opt.bank, math.max(1, opt.clusters * batch // opt.batch))
  local program <close> = assert(io.popen(command))
  local said = program:read "a"
  local ok = program:close()
  local nodes = {}
  for line in io.lines(list) do
    local name, kind, read, written, blocks, columns, with =
      line:match "^([^\t]+)\t(%a+)\t(%d+)\t(%d+)\t(%d+)\t(%d+)\t(.*)$"
    if line == "replay" then
      nodes = {}
    else
      local what = with:match "Job = ([^;%]]+)" or with:match "MASK = ([^;%]]+)"
      local short = kind == "kernel" and name:match "[%w_]+" or name
      nodes[#nodes + 1] = {
        name = short .. (what and " " .. what:gsub("cld_host_narrow<cld_host_bfloat16_format>%s?", "bf16") or ""),
        kind = kind, read = tonumber(read), written = tonumber(written), blocks = tonumber(blocks),
        partial = (short == "statistics" or short == "sums") and 2 * 4 * columns * with:match "WIDTH = (%d+)" or nil,
      }
    end
  end
  os.remove(list)
  assert(ok and #nodes > 0, "the step was not captured: " .. said)
  return nodes
end

local full = nodes_of(opt.batch, true)
if opt.nodes then
  print(#full)
  return
end
local small, large = nodes_of(opt.small), nodes_of(2 * opt.small)
assert(#small == #large, "the number of nodes depends on the batch")

local function at_full_size(i, field)
  return small[i][field] + (large[i][field] - small[i][field]) * (opt.batch / opt.small - 1)
end

local total = { kernel = 0, library = 0, memory = 0, read = 0, written = 0 }
local count, with_partials = {}, {}
for _, node in ipairs(full) do
  total[node.kind] = total[node.kind] + 1
  count[node.name] = (count[node.name] or 0) + 1
  if node.partial then with_partials[#with_partials + 1] = node end
end

-- The rows of the table: one for each kind, and one for each kernel.
local rows, partials = {}, 0
for i, node in ipairs(small) do
  assert(node.name == large[i].name, "the nodes depend on the batch")
  local row = rows[node.name]
  if not row then
    row = { name = node.name, kind = node.kind, count = count[node.name] or 0, read = 0, written = 0 }
    rows[node.name], rows[#rows + 1] = row, row
  end
  local more = { read = 0, written = 0 }
  if node.partial then
    partials = partials + 1
    local of_step = with_partials[partials]
    assert(of_step and of_step.name == node.name and of_step.partial == node.partial, "the norms depend on the batch")
    more.read = node.partial * of_step.blocks
    more.written = node.partial * (of_step.blocks - at_full_size(i, "blocks"))
  end
  for _, field in ipairs { "read", "written" } do
    local bytes = at_full_size(i, field) + more[field]
    row[field] = row[field] + bytes
    total[field] = total[field] + bytes
  end
end
table.sort(rows, function(a, b)
  local x, y = a.read + a.written, b.read + b.written
  if x ~= y then return x > y end
  return a.name < b.name
end)

print "nodes   read MB  written MB"
for _, row in ipairs(rows) do
  print(("%5d  %8.1f  %10.1f  %s%s"):format(row.count, row.read / 1e6, row.written / 1e6,
    row.kind == "kernel" and "" or row.kind .. ": ", row.name))
end
print(("%d nodes: %d kernels, %d calls of cuDNN and cuBLAS, %d copies and fills"):format(
  #full, total.kernel, total.library, total.memory))
print(("%.2f GB moved by ours"):format((total.read + total.written) / 1e9))

--- What a captured training step of NPID + CLD consists of, counted on the emulated device: its nodes, and the bytes
-- that our own kernels, copies and fills with zeros move in it, by kind and by kernel. No GPU is needed.
--
--   cldlua count.lua --build build            ResNet-18 of width 64, bf16, 2 x 256 images, a memory bank of 50000 rows
--
-- Nodes do not depend on the batch but for the bank, which comes in chunks of at most 8 MB of logits: 50000 rows are 7
-- chunks at 256 images and 4 for a small batch, and each takes three nodes for each view. So 18 are to be added.
--
-- Bytes are counted for two small batches and go on in a straight line from there, as arrays do. The partial sums of
-- batch norm, of which a large batch has no more from some size on, come out too large by it: about a fiftieth of all.
-- A byte counts once for each kernel that reads it, and once for each that writes it.
local cld = require "cld"

local opt = cld.options {
  about = "Nodes and bytes of a captured training step, counted without a GPU",
  { "build",    "build", "where make built the program and the emulated device", nonempty = true },
  { "width",    64,      "channels of the first stage", min = 8 },
  { "bank",     50000,   "rows of the memory bank", min = 1 },
  { "clusters", 128,     "k-means groups", min = 1 },
  { "batch",    256,     "images of the step that is described", min = 2 },
  { "small",    4,       "images of one step that is counted; the other has twice as many", min = 2 },
  { "nodes",    false,   "count nodes alone: the small step will do" },
}

local function absolute(path) return path:sub(1, 1) == "/" and path or os.getenv "PWD" .. "/" .. path end

-- Each node of the step's replay, in order: {name, kind, read, written}.
local function nodes_of(batch)
  local list = os.tmpname()
  local command = ("CLD_CUDA_PLUGIN='%s/libcld_cuda_host.so' CLD_HOST_TRAFFIC=1 CLD_HOST_LAUNCHES='%s' '%s/cldlua' " ..
    "spec/gpu/step.lua --device cuda --once --batch %d --width %d --bank %d --clusters %d"):format(
    absolute(opt.build), list, opt.build, batch, opt.width, opt.bank, math.max(1, opt.clusters * batch // opt.batch))
  local program <close> = assert(io.popen(command))
  local said = program:read "a"
  local ok = program:close()
  local nodes = {}
  for line in io.lines(list) do
    local name, kind, read, written, with = line:match "^([^\t]+)\t(%a+)\t(%d+)\t(%d+)\t(.*)$"
    if line == "replay" then
      nodes = {}
    else
      local what = with:match "Job = ([^;%]]+)" or with:match "MASK = ([^;%]]+)"
      nodes[#nodes + 1] = {
        name = (kind == "kernel" and name:match "[%w_]+" or name)
          .. (what and " " .. what:gsub("cld_host_narrow<cld_host_bfloat16_format>%s?", "bf16") or ""),
        kind = kind, read = tonumber(read), written = tonumber(written),
      }
    end
  end
  os.remove(list)
  assert(ok and #nodes > 0, "the step was not captured: " .. said)
  return nodes
end

local small = nodes_of(opt.small)
local large = opt.nodes and small or nodes_of(2 * opt.small)
assert(#small == #large, "the number of nodes depends on the batch")

-- Rows of the table: by kind and by kernel.
local function at_full_size(i, field)
  if opt.nodes then return small[i][field] end
  return small[i][field] + (large[i][field] - small[i][field]) * (opt.batch / opt.small - 1)
end

local rows, total = {}, { kernel = 0, library = 0, memory = 0, read = 0, written = 0 }
for i, node in ipairs(small) do
  assert(node.name == large[i].name, "the nodes depend on the batch")
  local row = rows[node.name]
  if not row then
    row = { name = node.name, kind = node.kind, count = 0, read = 0, written = 0 }
    rows[node.name], rows[#rows + 1] = row, row
  end
  row.count = row.count + 1
  total[node.kind] = total[node.kind] + 1
  for _, field in ipairs { "read", "written" } do
    local bytes = at_full_size(i, field)
    row[field] = row[field] + bytes
    total[field] = total[field] + bytes
  end
end
table.sort(rows, function(a, b)
  local x, y = a.read + a.written, b.read + b.written
  if x ~= y then return x > y end
  return a.name < b.name
end)

if opt.nodes then
  print(#small)
else
  print "nodes   read MB  written MB"
  for _, row in ipairs(rows) do
    print(("%5d  %8.1f  %10.1f  %s%s"):format(row.count, row.read / 1e6, row.written / 1e6,
      row.kind == "kernel" and "" or row.kind .. ": ", row.name))
  end
  print(("%d nodes: %d kernels, %d calls of cuDNN and cuBLAS, %d copies and fills"):format(
    #small, total.kernel, total.library, total.memory))
  print "(18 more at 256 images and a bank of 50000 rows, which comes in more chunks then)"
  print(("%.2f GB moved by ours"):format((total.read + total.written) / 1e9))
end

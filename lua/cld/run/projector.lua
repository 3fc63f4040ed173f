--- Writes the data of TensorBoard's projector at the end of a run with --tensorboard: features of images from the last
-- evaluation, with their labels and pictures.
local core = require "cld.core"
local dist = require "cld.dist"
local extract = require "cld.eval.extract"
local create, no_grad = core.tensor, core.autograd.no_grad

local projector = {}

local MOST_ROWS, AT_ONCE = 1000, 100 -- images, evenly spread over a set; images per forward pass

-- The images that can be read, unchanged: {u8 (height, width, 3), ...}, and their rows from 1.
local function pictures_of(set)
  local pictures, rows = {}, {}
  local count = math.min(#set, MOST_ROWS)
  for i = 0, count - 1 do
    local row = i * #set // count + 1
    local ok, picture = pcall(set.read, set, row)
    if ok then pictures[#pictures + 1], rows[#rows + 1] = picture, row end
  end
  return pictures, rows
end

-- Features of pictures, computed by this rank alone.
local function features_of(net, pictures, view, layer)
  local _ <close> = dist.whole_batch()
  local _ <close> = extract.in_eval_mode(net)
  local _ <close> = no_grad()
  local branch, device, parts = extract.layer("run", net, layer), extract.device(net, {}), {}
  for first = 1, #pictures, AT_ONCE do
    local views = {}
    for i = first, math.min(first + AT_ONCE - 1, #pictures) do views[#views + 1] = view:views(pictures[i]) end
    parts[#parts + 1] = branch(net, create.cat(views, 1):to(device)):detach():cpu():float()
  end
  return create.cat(parts, 1)
end

--- write(run): features of test images, or of training images if there are none, in the layer that the run compares.
function projector.write(run)
  if not run.board or not run.seen then return end
  local net, sets = run.seen.net, run.seen.sets
  local set = sets.test or sets.train
  local pictures, rows = pictures_of(set)
  if #pictures == 0 then return end
  local layer = run.described and run.described.layer or "instance"
  local labels = set.labels:index_select(1, create.tensor(rows, "i64") - 1)
  run.board.writer:embedding(layer, features_of(net, pictures, extract.view(set, { augment = sets.test_view }), layer),
    { labels = labels, class_names = set.class_names, images = pictures })
end

return projector

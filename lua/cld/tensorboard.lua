--- TensorBoard's files: scalars, images and embeddings, for `tensorboard --logdir`. With --tensorboard a run writes
-- them. A recipe may write more, in its own folder:
--
--   local board = cld.tensorboard.writer "runs/mine/own"
--   board:scalar("own/temperature", 0.2, run.step)
--   board:image("own/filters", cld.image.grid(filters), run.step)                  -- u8 (height, width, 3)
--   board:embedding("test", features, { labels = labels, class_names = set.class_names, images = pictures })
--   board:close()
--
-- A writer makes its own event file (runtime/io/event.h) and begins a session in it. To continue in a folder, give the
-- step: TensorBoard then leaves out what earlier sessions wrote for that step and later ones.
local core = require "cld.core"
local caller = require "cld.caller"
local class = require "cld.class"
local image = require "cld.image"
local user_error = require "cld.user_error"
local create = core.tensor

local tensorboard = {}

local Writer = class.new "cld.tensorboard.writer"

local function check_text(name, what, value)
  if type(value) ~= "string" or value == "" or not utf8.len(value) or value:find "%z" then
    caller.raise("%s: %s must be a text, got %s", name, what, caller.shown(value))
  end
end

local function check_open(self, name)
  if not self.file then caller.raise("%s: the writer is closed", name) end
end

-- Seconds since 1970.
local function now(wall_time) return wall_time or os.time() end

--- is_supported() -> true; or nil and why not, if this build was made without protobuf-c.
function tensorboard.is_supported() return core.io.has_events() end

--- writer(folder[, {step = 0, wall_time}]) -> a writer into this folder, which is made if there is none. step: the
-- first step that it will write. TensorBoard then leaves out what the folder already has for that step and later ones.
-- wall_time: seconds since 1970, by default now.
function tensorboard.writer(folder, options)
  check_text("tensorboard.writer", "the folder", folder)
  caller.check_fields("tensorboard.writer", options, { "step", "wall_time" })
  options = options or {}
  local step = caller.integer("tensorboard.writer", "step", options.step or 0, 0)
  local file = user_error.call(core.io.event_writer, folder)
  user_error.call(file.start, file, step, now(options.wall_time))
  return setmetatable({ folder = folder, file = file, embeddings = {} }, Writer)
end

--- writer:scalar(name, value, step[, wall_time]): writes a number, or a tensor of one element, for which it waits.
-- Names with a slash ("train/loss") are shown in groups. TensorBoard stores 32 bits of the value.
function Writer:scalar(name, value, step, wall_time)
  check_open(self, "scalar")
  check_text("scalar", "the name", name)
  if create.is_tensor(value) and value:numel() == 1 then value = value:item() end
  if type(value) ~= "number" then
    caller.raise("scalar: '%s' must be a number or a tensor of one element, got %s", name, caller.shown(value))
  end
  step = caller.integer("scalar", "the step", step, 0)
  user_error.call(self.file.scalar, self.file, name, value, step, now(wall_time))
end

--- writer:image(name, image u8 (height, width, 3), step[, wall_time]): writes an image as a JPEG, a small one as a PNG.
function Writer:image(name, value, step, wall_time)
  check_open(self, "image")
  check_text("image", "the name", name)
  if not create.is_tensor(value) or value.dtype ~= "u8" or value.ndim ~= 3 or value.shape[3] ~= 3 then
    caller.raise("image: '%s' must be u8[height, width, 3], got %s", name, caller.shown(value))
  end
  step = caller.integer("image", "the step", step, 0)
  local height, width = value.shape[1], value.shape[2]
  local kind = height * width <= 128 * 128 and "png" or "jpeg"
  local bytes <close> = user_error.call(core.picture.encode, kind, value, 90)
  user_error.call(self.file.image, self.file, name, bytes, height, width, step, now(wall_time))
end

-- ---- embeddings -----------------------------------------------------------------

local SIDE = 32             -- a thumbnail's side in pixels
local LARGEST_SPRITE = 8192 -- the largest that TensorBoard accepts

-- An image as a thumbnail: its centre, u8 (32, 32, 3).
local function thumbnail(picture)
  local height, width = picture.shape[1], picture.shape[2]
  local side = math.min(height, width)
  return image.resized_crop(picture, (height - side) // 2, (width - side) // 2, side, side, SIDE)
end

-- Makes a text fit for a row of metadata.tsv.
local function cell(value) return (core.text.printable_line(tostring(value)):gsub("\t", " ")) end

-- A line for each row: the name of its class, else its label, else its number.
local function metadata(count, labels, class_names)
  local lines = {}
  for i = 1, count do
    local label = labels and labels[i]
    local name = class_names and label and class_names[label + 1]
    lines[i] = cell(name or label or i - 1)
  end
  return table.concat(lines, "\n") .. "\n"
end

local function config(embeddings)
  local parts = {}
  for _, one in ipairs(embeddings) do
    parts[#parts + 1] = ('embeddings {\n  tensor_name: "%s"\n  tensor_shape: %d\n  tensor_shape: %d\n'
      .. '  tensor_path: "%s/tensors.tsv"\n  metadata_path: "%s/metadata.tsv"\n'):format(one.name, one.rows,
      one.columns, one.name, one.name)
    if one.has_images then
      parts[#parts + 1] = ('  sprite {\n    image_path: "%s/sprite.png"\n    single_image_dim: %d\n'
        .. '    single_image_dim: %d\n  }\n'):format(one.name, SIDE, SIDE)
    end
    parts[#parts + 1] = "}\n"
  end
  return table.concat(parts)
end

local function check_embedding(name, features, options)
  if type(name) ~= "string" or not name:find "^[%w_-]+$" then
    caller.raise("embedding: the name is that of a folder, of letters, digits, _ and -; got %s", caller.shown(name))
  end
  if not create.is_tensor(features) or features.ndim ~= 2 or features:numel() == 0 then
    caller.raise("embedding: '%s' must be a tensor (rows, columns), got %s", name, caller.shown(features))
  end
  local labels, images = options.labels, options.images
  if create.is_tensor(labels) then labels = labels:totable() end
  for what, list in pairs { labels = labels, images = images } do
    if type(list) ~= "table" or #list ~= #features then
      caller.raise("embedding: '%s' has %d rows; %s must be as many, got %s", name, #features, what,
        type(list) == "table" and #list or caller.shown(list))
    end
  end
  if images and math.ceil(math.sqrt(#images)) * SIDE > LARGEST_SPRITE then
    caller.raise("embedding: '%s': TensorBoard takes images of at most %d rows, got %d", name,
      (LARGEST_SPRITE // SIDE) * (LARGEST_SPRITE // SIDE), #images)
  end
  return labels, images
end

--- writer:embedding(name, features (rows, columns)[, {labels, class_names, images}]): for TensorBoard's projector:
-- writes NAME/tensors.tsv, NAME/metadata.tsv and NAME/sprite.png in the writer's folder, and next to them
-- projector_config.pbtxt, which names all embeddings of this writer. labels: a list or i64 (rows), from 0;
-- class_names[1] is the name of label 0. images: a list of u8 (height, width, 3), from which thumbnails are made.
function Writer:embedding(name, features, options)
  check_open(self, "embedding")
  caller.check_fields("embedding", options, { "labels", "class_names", "images" })
  options = options or {}
  local labels, images = check_embedding(name, features, options)
  local folder = self.folder .. "/" .. name
  user_error.call(core.io.mkdir, folder)
  user_error.call(core.io.save_tsv, folder .. "/tensors.tsv", features:detach():cpu():float())
  user_error.call(core.io.write_atomic, folder .. "/metadata.tsv", metadata(#features, labels, options.class_names))
  if images then
    local thumbnails = {}
    for i, picture in ipairs(images) do thumbnails[i] = thumbnail(picture) end
    image.write(folder .. "/sprite.png", image.grid(thumbnails, { padding = 0,
      columns = math.ceil(math.sqrt(#images)) }))
  end
  local entry = { name = name, rows = features.shape[1], columns = features.shape[2], has_images = images ~= nil }
  for i = #self.embeddings, 1, -1 do
    if self.embeddings[i].name == name then table.remove(self.embeddings, i) end
  end
  table.insert(self.embeddings, entry)
  user_error.call(core.io.write_atomic, self.folder .. "/projector_config.pbtxt", config(self.embeddings))
end

--- writer:close(): may be called twice. The file already has everything that was written.
function Writer:close()
  if self.file then self.file:close() end
  self.file = nil
end
Writer.__close, Writer.__gc = Writer.close, Writer.close

return tensorboard

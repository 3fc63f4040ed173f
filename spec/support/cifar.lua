--- Small CIFAR folders for the specs of the readers: three rows per file, with the same formula as
-- spec/fixtures/make_cifar.py.
local process = require "spec.support.process"
local writer = require "cld.cifar_writer"

local cifar = {}

function cifar.pixel(row, column) return (31 * row + 7 * column) % 256 end

--- `count` images as strings of 3072 bytes.
function cifar.images(count)
  local images = {}
  for i = 0, count - 1 do
    local bytes = {}
    for j = 0, 3071 do bytes[j + 1] = string.char(cifar.pixel(i, j)) end
    images[i + 1] = table.concat(bytes)
  end
  return images
end

--- A batch of three rows with labels 3, 1, 9.
function cifar.batch() return { labels = { 3, 1, 9 }, images = cifar.images(3) } end

cifar.classes = { "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck" }

--- CIFAR-10 under root: fifteen training images, three test images.
function cifar.write10(root, layout)
  local train = { labels = {}, images = {} }
  local batch = cifar.batch()
  for i = 0, 14 do
    train.labels[i + 1], train.images[i + 1] = batch.labels[i % 3 + 1], batch.images[i % 3 + 1]
  end
  return writer.cifar10(root, layout, train, batch, cifar.classes)
end

--- CIFAR-100 in `folder`.
function cifar.write100(folder, layout)
  local batch = { fine_labels = { 99, 0, 41 }, coarse_labels = { 19, 0, 7 }, images = cifar.images(3) }
  for _, name in ipairs { "train", "test" } do
    if layout == "python" then
      process.write(folder .. "/" .. name, writer.python(batch, name))
    else
      process.write(folder .. "/" .. name .. ".bin", writer.binary(batch))
    end
  end
end

return cifar

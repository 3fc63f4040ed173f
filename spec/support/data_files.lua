--- Small data sets as files, in the layouts of their authors, for the specs of the readers. Pixels and colours come
-- from formulas, so that a spec knows the right image. Images are PPM files whatever their names say, because their
-- pixels are exact and a file's format is detected from its content.
local cld = require "cld"
local process = require "spec.support.process"

local files = {}

--- A PPM file as text, with the one colour {r, g, b}.
function files.ppm(height, width, colour)
  return ("P6\n%d %d\n255\n"):format(width, height) .. string.char(table.unpack(colour)):rep(height * width)
end

--- Writes a file, and creates its folders.
function files.write(path, text)
  local folder = path:match "^(.*)/[^/]*$"
  if folder then cld.io.mkdir(folder) end
  return process.write(path, text)
end

--- The colour of pixel (y, x) of a u8 (H, W, 3) image, counted from 1; by default of the first pixel.
function files.colour(image, y, x) return image[y or 1][x or 1]:totable() end

--- u8 (count, height, width, 3): pixel (i, y, x) is {10 i, y, x}, all counted from 0.
function files.images(count, height, width)
  local list = {}
  for i = 0, count - 1 do
    local image = {}
    for y = 0, height - 1 do
      local row = {}
      for x = 0, width - 1 do row[x + 1] = { 10 * i % 256, y, x } end
      image[y + 1] = row
    end
    list[i + 1] = image
  end
  return cld.tensor(list, "u8")
end

--- A .npy file as text: descr as "|u1", shape as "(2, 3)".
function files.npy(descr, shape, data)
  local header = ("{'descr': '%s', 'fortran_order': False, 'shape': %s, }"):format(descr, shape)
  header = header .. (" "):rep(-(10 + #header + 1) % 64) .. "\n"
  return "\x93NUMPY\1\0" .. string.pack("<I2", #header) .. header .. data
end

-- ---- STL-10 ---------------------------------------------------------------------

--- Channel c of pixel (y, x) of image i of an STL-10 file, all counted from 0.
function files.stl10_pixel(i, y, x, c) return (31 * i + 7 * y + 3 * x + 101 * c) % 256 end

-- Planes of 96 x 96, each stored column by column.
local function stl10_image(i)
  local bytes, k = {}, 0
  for c = 0, 2 do
    for x = 0, 95 do
      for y = 0, 95 do
        k = k + 1
        bytes[k] = string.char(files.stl10_pixel(i, y, x, c))
      end
    end
  end
  return table.concat(bytes)
end

files.stl10_classes = {
  "airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck",
}

local made = {}
--- The text of an STL-10 file with `count` images.
function files.stl10_images(count)
  local list = {}
  for i = 0, count - 1 do
    made[i] = made[i] or stl10_image(i)
    list[i + 1] = made[i]
  end
  return table.concat(list)
end

--- Writes root/stl10_binary: train and test are lists of labels, 1 to 10; unlabeled is a count; folds are lists of
-- indices from 0.
function files.stl10(root, sets)
  local folder = root .. "/stl10_binary/"
  for _, split in ipairs { "train", "test" } do
    files.write(folder .. split .. "_X.bin", files.stl10_images(#sets[split]))
    files.write(folder .. split .. "_y.bin", string.char(table.unpack(sets[split])))
  end
  if sets.unlabeled then files.write(folder .. "unlabeled_X.bin", files.stl10_images(sets.unlabeled)) end
  files.write(folder .. "class_names.txt", table.concat(files.stl10_classes, "\n") .. "\n")
  local lines = {}
  for k, fold in ipairs(sets.folds or {}) do lines[k] = table.concat(fold, " ") .. " \n" end
  files.write(folder .. "fold_indices.txt", table.concat(lines))
  return folder
end

-- ---- ImageNet -------------------------------------------------------------------

-- The WordNet ids of the development kit in spec/fixtures/devkit.safetensors, by number; they are in reverse order.
files.wnids = {}
for i = 1, 9 do files.wnids[i] = ("n%08d"):format(1440764 + 7919 * (101 - i)) end

--- Writes root/ILSVRC2012_devkit_t12: numbers[i] is the class of validation image i.
function files.devkit(root, numbers)
  local bytes = cld.load("spec/fixtures/devkit.safetensors")["meta.mat"]:totable()
  files.write(root .. "/ILSVRC2012_devkit_t12/data/meta.mat", string.char(table.unpack(bytes)))
  files.write(root .. "/ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt",
    table.concat(numbers, "\n") .. "\n")
end

--- The name and the content of validation image i.
function files.val_name(i) return ("ILSVRC2012_val_%08d.JPEG"):format(i) end
function files.val_image(i) return files.ppm(4, 4 + i, { 100, i, 0 }) end

--- Writes the training images of a class, unpacked, into folder: ID_7.JPEG and so on, with the colour {0, class,
-- number}.
function files.train_class(folder, class, numbers)
  for _, number in ipairs(numbers) do
    files.write(("%s/%s/%s_%d.JPEG"):format(folder, files.wnids[class], files.wnids[class], number),
      files.ppm(4, 5, { 0, class, number }))
  end
end

return files

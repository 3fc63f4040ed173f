--- A data set of random images, (count[, side = 32]): 512 of CIFAR's size, or 32 larger ones, repeated.
local cld = require "cld"

return function(count, side)
  side = side or 32
  local images = cld.empty(count, side, side, 3, "u8")
  local few = cld.rand(side == 32 and 512 or 32, side, side, 3):mul(256):to "u8"
  for first = 1, count, #few do
    local n = math.min(#few, count - first + 1)
    images:narrow(1, first, n):copy_(few:narrow(1, 1, n))
  end
  return cld.data.tensors { images = images }
end

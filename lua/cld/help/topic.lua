--- The parts of a topic's text: paragraphs, lists and code.
local topic = {}

--- blocks(text) -> {{code = text} or {items = {text, ...}} or {paragraph = text}, ...}: lines of code
-- begin with four spaces, items with "- ".
function topic.blocks(text)
  local blocks, current = {}, nil
  local function add(kind, value)
    current = { [kind] = value }
    blocks[#blocks + 1] = current
  end
  for line in (text .. "\n"):gmatch "(.-)\n" do
    local code, item = line:match "^    (.*)$", line:match "^%- (.*)$"
    if code then
      if current and current.code then current.code = current.code .. "\n" .. code else add("code", code) end
    elseif line == "" then
      if current and current.code then current.code = current.code .. "\n" else current = nil end
    elseif item then
      if current and current.items then current.items[#current.items + 1] = item else add("items", { item }) end
    elseif current and current.items then
      current.items[#current.items] = current.items[#current.items] .. " " .. line:match "^%s*(.*)$"
    elseif current and current.paragraph then
      current.paragraph = current.paragraph .. " " .. line
    else
      add("paragraph", line)
    end
  end
  for _, block in ipairs(blocks) do
    if block.code then block.code = block.code:gsub("%s+$", "") end
  end
  return blocks
end

return topic

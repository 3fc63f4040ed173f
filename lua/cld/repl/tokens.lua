--- The tokens of Lua code, and where a chunk declares its own local variables. The code must be valid Lua: results for
-- other text are meaningless.
local tokens = {}

local ipairs = ipairs
local find, sub = string.find, string.sub

local KEYWORDS = {}
for word in string.gmatch([[and break do else elseif end false for function goto if in local nil not or repeat return
  then true until while]], "%a+") do KEYWORDS[word] = true end

-- ---- words ---------------------------------------------------------------------------

-- The end of the long bracket that begins at `from`, or nil if none begins there.
local function long_bracket(text, from)
  local _, opened, level = find(text, "^%[(=*)%[", from)
  if not opened then return nil end
  local _, closed = find(text, "]" .. level .. "]", opened + 1, true)
  return closed or #text
end

local function quoted(text, from)
  local quote, at = sub(text, from, from), from + 1
  while true do
    at = find(text, "[\\'\"]", at)
    if not at then return #text end
    local character = sub(text, at, at)
    if character == quote then return at end
    at = at + (character == "\\" and 2 or 1)
  end
end

local function number(text, from)
  local _, last = find(text, "^0[xX][%x.]*", from)
  if last then
    local _, exponent = find(text, "^[pP][+-]?%d*", last + 1)
    return exponent or last
  end
  _, last = find(text, "^%.?%d[%d.]*", from)
  if not last then return nil end
  local _, exponent = find(text, "^[eE][+-]?%d*", last + 1)
  return exponent or last
end

local function symbol(text, from)
  for _, pattern in ipairs { "^%.%.%.", "^%.%.", "^==", "^~=", "^<=", "^>=", "^//", "^::", "^<<", "^>>" } do
    local _, last = find(text, pattern, from)
    if last then return last end
  end
  return from
end

-- Skips white space and comments.
local function skip_blank(text, from)
  while true do
    local _, last = find(text, "^%s+", from)
    if not last and find(text, "^%-%-", from) then
      last = long_bracket(text, from + 2) or (find(text, "\n", from, true) or #text + 1) - 1
    end
    if not last then return from end
    from = last + 1
  end
end

--- The words in order: {kind = "name", "keyword", "string", "number" or "symbol", text, last = its last byte}.
function tokens.of(text)
  local list, at = {}, skip_blank(text, 1)
  while at <= #text do
    local kind, _, last = "name", find(text, "^[A-Za-z_][A-Za-z0-9_]*", at)
    if last then
      if KEYWORDS[sub(text, at, last)] then kind = "keyword" end
    elseif find(text, "^['\"]", at) then
      kind, last = "string", quoted(text, at)
    elseif long_bracket(text, at) then
      kind, last = "string", long_bracket(text, at)
    elseif number(text, at) then
      kind, last = "number", number(text, at)
    else
      kind, last = "symbol", symbol(text, at)
    end
    list[#list + 1] = { kind = kind, text = sub(text, at, last), last = last }
    at = skip_blank(text, last + 1)
  end
  return list
end

-- ---- declarations --------------------------------------------------------------------

local OPENS = { ["function"] = 1, ["do"] = 1, ["repeat"] = 1, ["if"] = 1, ["end"] = -1, ["until"] = -1 }
local BRACKETS = { ["("] = 1, ["["] = 1, ["{"] = 1, [")"] = -1, ["]"] = -1, ["}"] = -1 }
local UNARY = { ["not"] = true, ["-"] = true, ["#"] = true, ["~"] = true }
local BINARY = { ["and"] = true, ["or"] = true }
for operator in string.gmatch("+ - * / // % ^ & | ~ << >> .. == ~= < <= > >= ,", "%S+") do BINARY[operator] = true end

-- The key of a token in the table; strings have their own.
local function weight(token, of) return token.kind ~= "string" and of[token.text] or 0 end

-- The position of the token that closes the one at i: a bracket, or the `end` of a function.
local function closing(list, i, of)
  local depth = 0
  for j = i, #list do
    depth = depth + weight(list[j], of)
    if depth == 0 then return j end
  end
  return #list
end

-- The last position of the suffixes of a name or parenthesis: .name :name [key] (arguments) {...} "..."
local function suffixes(list, i)
  while true do
    local following = list[i + 1]
    local text = following and following.text
    if following and following.kind == "string" then
      i = i + 1
    elseif text == "." or text == ":" then
      i = i + 2
    elseif text == "[" or text == "(" or text == "{" then
      i = closing(list, i + 1, BRACKETS)
    else
      return i
    end
  end
end

-- The last position of the list of expressions that begins at i. An operand extends as far as possible.
local function expressions(list, i)
  while true do
    while list[i] and list[i].kind ~= "string" and UNARY[list[i].text] do i = i + 1 end
    local token = list[i]
    if not token then return #list end
    if token.text == "{" and token.kind == "symbol" then
      i = closing(list, i, BRACKETS)
    elseif token.text == "function" and token.kind == "keyword" then
      i = closing(list, i, OPENS)
    elseif token.kind == "name" then
      i = suffixes(list, i)
    elseif token.text == "(" and token.kind == "symbol" then
      i = suffixes(list, closing(list, i, BRACKETS))
    end
    local following = list[i + 1]
    if not following or following.kind == "string" or not BINARY[following.text] then return i end
    i = i + 2
  end
end

-- The variables {name, attribute} from position i on, and the position of the last token of their list.
local function variables(list, i)
  local found = {}
  while true do
    local name, attribute = list[i].text, nil
    if list[i + 1] and list[i + 1].text == "<" and list[i + 1].kind == "symbol" then
      attribute, i = list[i + 2].text, i + 3
    end
    found[#found + 1] = { name = name, attribute = attribute }
    if not list[i + 1] or list[i + 1].text ~= "," or list[i + 1].kind ~= "symbol" then return found, i end
    i = i + 2
  end
end

--- The local statements of the chunk itself, outside of its blocks and functions: {last = its last byte, {name =,
-- attribute = "const", "close" or nil}, ...}.
function tokens.declarations(list)
  local found, depth, i = {}, 0, 1
  while i <= #list do
    local token = list[i]
    if depth == 0 and token.kind == "keyword" and token.text == "local" then
      local declared
      if list[i + 1].text == "function" then
        declared, i = { { name = list[i + 2].text } }, closing(list, i + 1, OPENS)
      else
        declared, i = variables(list, i + 1)
        local following = list[i + 1]
        if following and following.text == "=" and following.kind == "symbol" then i = expressions(list, i + 2) end
      end
      declared.last = list[i].last
      found[#found + 1] = declared
    else
      depth = depth + (token.kind == "keyword" and OPENS[token.text] or 0)
    end
    i = i + 1
  end
  return found
end

return tokens

--- What a new report lacks that an older one of the same runs shows, for example if the images have moved since.
-- Both are read from their HTML files, which hold their data as JSON (page.lua).
local json = require "cld.json"

-- {field of a run's data, what a reader calls it}, in page order.
local parts = {
  { "curves", "curves" }, { "views", "views" }, { "gallery", "neighbours" }, { "map", "map" }, { "groups", "groups" },
  { "confusion", "confusion" },
}

-- The runs of a report by name; a single run by "", since its folder may have been renamed. Empty if the text is not a
-- report.
local function runs_of(text)
  local stored = text:match '<script type="application/json" id="data">(.-)</script>'
  local ok, data = pcall(json.decode, stored or "")
  local by_name, runs = {}, ok and type(data) == "table" and type(data.runs) == "table" and data.runs or {}
  for _, run in ipairs(runs) do
    if type(run) == "table" and type(run.name) == "string" then by_name[#runs > 1 and run.name or ""] = run end
  end
  return by_name
end

local function has(run, field) return type(run[field]) == "table" and next(run[field]) ~= nil end

--- lost(text of an older report, text of a new one) -> a list of the parts, such as "map", that the older one shows
-- for a run that is in both, and the new one does not.
return function(old, new)
  local were, are, list = runs_of(old), runs_of(new), {}
  for _, part in ipairs(parts) do
    for name, run in pairs(are) do
      if were[name] and has(were[name], part[1]) and not has(run, part[1]) then
        list[#list + 1] = part[2]
        break
      end
    end
  end
  return list
end

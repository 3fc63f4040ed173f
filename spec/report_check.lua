--- Not a spec: reports in a real, headless browser. `make report-check`, or for given reports
--
--   build/cldlua spec/report_check.lua --build build a.html b.html
--
-- A small run on toy images makes a report, and two runs make a report of several; spec/report_check.js does in the
-- page what a user would. Light and dark, on a screen and on a phone, there must be no error on the console, every
-- picture loaded, and a value at the pointer. Pictures of the pages are left in build/report-check. Without Chromium it
-- says so and passes.
local cld = require "cld"

local opt = cld.options {
  about = "reports in a headless Chromium",
  { "reports", {},      "files to look at; none: those of a small run", value = "arguments" },
  { "build",   "build", "where the program is, and what is made goes" },
}

local here = arg[0]:match "^(.*)/[^/]*$" or "."

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "a"
  file:close()
  return text
end

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

local function output(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read "a"
  return text, pipe:close()
end

local function quoted(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

local browser
for _, name in ipairs { "chromium", "chromium-browser", "google-chrome" } do
  browser = browser or output("command -v " .. name):match "%S+"
end
if not browser then
  print "report-check: skipped, there is no Chromium here (Debian: apt-get install chromium)"
  os.exit(0, true)
end

local folder = opt.build .. "/report-check"
assert(os.execute(("rm -rf %s && mkdir -p %s"):format(quoted(folder), quoted(folder))))

-- ---- reports to look at -----------------------------------------------------------

local function run(recipe, arguments)
  local command = ("%s %s/../recipes/%s.lua %s"):format(quoted(opt.build .. "/cldlua"), quoted(here), recipe, arguments)
  local text, ok = output(command .. " 2>&1")
  if not ok then error(command .. "\n" .. text, 0) end
end

local function small_reports()
  local toy, runs = quoted(folder .. "/toy"), folder .. "/runs"
  run("make_toy_data", ("--out %s --layout files --train 240 --test 80"):format(toy))
  for i, name in ipairs { "one <b>&", "two" } do
    run("folder_byol_cld", ("--data %s --size 32 --epochs %d --batch-size 48 --width 8 --hidden 32 --clusters 8"
      .. " --projection-dim 16 --warmup-epochs 0 --print-every 1 --runs %s --name %s"):format(toy, i, quoted(runs),
      quoted(name)))
  end
  local one, two = runs .. "/one <b>&", runs .. "/two"
  local empty = folder .. "/empty"
  assert(os.execute("mkdir " .. quoted(empty)))
  write(empty .. "/log.jsonl", "")
  write(empty .. "/options.json", '{"epochs": 3}')
  run("report", ("%s %s --out %s"):format(quoted(one), quoted(two), quoted(folder .. "/both.html")))
  run("report", quoted(empty))
  return { one .. "/report.html", folder .. "/both.html", empty .. "/report.html" }
end

-- ---- the browser ------------------------------------------------------------------

local function url(path)
  if path:sub(1, 1) ~= "/" then path = os.getenv "PWD" .. "/" .. path end
  return "file://" .. path:gsub("[^%w/._~-]", function(c) return ("%%%02X"):format(c:byte()) end)
end

local function browse(path, looks, what)
  local command = ("%s --headless --no-sandbox --disable-gpu --hide-scrollbars --enable-logging=stderr --log-level=0"
    .. " --user-data-dir=%s --virtual-time-budget=20000 --window-size=%d,%d --blink-settings=preferredColorScheme=%d"
    .. " %s %s"):format(quoted(browser), quoted(folder .. "/profile"), looks.width, looks.height, looks.dark and 0 or 1,
      what, quoted(url(path)))
  return output(command .. " 2>" .. quoted(folder .. "/stderr"))
end

local watch = [[<script>
window.problems = [];
window.addEventListener("error", (e) => window.problems.push("error: " + (e.message || e.target.id)), true);
window.addEventListener("unhandledrejection", (e) => window.problems.push("rejection: " + e.reason));
document.addEventListener("securitypolicyviolation", (e) => window.problems.push("not allowed: " + e.blockedURI));
for (const kind of ["error", "warn"]) console[kind] = (...words) => window.problems.push(kind + ": " + words.join(" "));
</script>]]

-- The page around: a browser's own window cannot be as narrow as a phone.
local frame = [[<!doctype html><title>check</title><body><iframe src="checked.html" width="%d" height="%d"></iframe>
<script>
window.addEventListener("message", (e) => {
  const out = document.createElement("pre");
  out.id = "checked";
  out.textContent = e.data;
  document.body.append(out);
});
</script></body>]]

local entities = { ["&lt;"] = "<", ["&gt;"] = ">", ["&amp;"] = "&" }

-- The report with the check in it; returns what it found.
local function checked(path, looks)
  local html = read(path)
  local head, rest = html:match "^(.-<head>)(.*)$"
  local own = rest:gsub("</script>%s*</body>", function()
    return "\n" .. read(here .. "/report_check.js") .. "</script>\n</body>"
  end)
  write(folder .. "/checked.html", head .. watch .. own)
  write(folder .. "/frame.html", frame:format(looks.width, looks.height))
  local page = browse(folder .. "/frame.html", looks, "--dump-dom")
  local text = page:match '<pre id="checked">(.-)</pre>'
  if not text then return { "the check did not come to its end" } end
  local result, problems = cld.json.decode((text:gsub("&%a+;", entities))), {}
  for _, problem in ipairs(result.found) do problems[#problems + 1] = problem end
  for line in io.lines(folder .. "/stderr") do
    if line:find "CONSOLE" then problems[#problems + 1] = line end
  end
  return problems, result
end

local passed, failed = 0, 0
local screens = {
  { name = "light", width = 1280, height = 1800 }, { name = "dark", width = 1280, height = 1800, dark = true },
  { name = "phone", width = 390, height = 844 },
}
for i, path in ipairs(#opt.reports > 0 and opt.reports or small_reports()) do
  for _, looks in ipairs(screens) do
    local problems, result = checked(path, looks)
    browse(path, looks, ("--screenshot=%s"):format(quoted(("%s/%d-%s.png"):format(folder, i, looks.name))))
    local seen = result and (" (%d pixels wide: %d runs, %d curves, %d pictures)"):format(result.width, result.runs,
      result.panels, result.pictures) or ""
    print(("%s  %s, %s%s"):format(#problems == 0 and "ok    " or "FAILED", path, looks.name, seen))
    for _, problem in ipairs(problems) do print("        " .. problem) end
    if #problems == 0 then passed = passed + 1 else failed = failed + 1 end
  end
end
print(("%d passed, %d failed; pictures in %s"):format(passed, failed, folder))
os.exit(failed == 0 and 0 or 1, true)

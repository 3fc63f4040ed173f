--- The output of `make test`: a line per spec file with its failures in full below it, and at the end "N passed, N
-- failed". Errors outside a test (a file that does not load, a before_each that raises) count as failed.
return function()
  local busted = require "busted"
  local handler = require "busted.outputHandlers.base"()
  local printed, file = 0, nil

  local function failed() return handler.failuresCount + handler.errorsCount end

  -- Failures and errors not yet shown.
  local function print_new()
    local all = {}
    for _, list in ipairs { handler.failures, handler.errors } do
      for _, failure in ipairs(list) do
        if not failure.printed then all[#all + 1] = failure end
      end
    end
    for _, failure in ipairs(all) do
      failure.printed = true
      printed = printed + 1
      local message = failure.message
      if type(message) ~= "string" then message = require "pl.pretty".write(message) end
      print(("\n%d) %s"):format(printed, failure.name))
      print("   " .. message:gsub("\n", "\n   "))
      local trace = failure.trace and failure.trace.traceback
      if trace then print("   " .. trace:gsub("^\n", ""):gsub("\n", "\n   ")) end
    end
  end

  busted.subscribe({ "file", "start" }, function(element)
    file = { name = element.name, passed = handler.successesCount, failed = failed(), start = busted.monotime() }
    return nil, true
  end)

  busted.subscribe({ "file", "end" }, function()
    local ok, bad = handler.successesCount - file.passed, failed() - file.failed
    print(("%-36s %4d passed%s  %6.2f s"):format(file.name, ok, bad > 0 and (", %d FAILED"):format(bad) or "",
      busted.monotime() - file.start))
    print_new()
    io.stdout:flush()
    return nil, true
  end)

  busted.subscribe({ "exit" }, function()
    print_new()
    for _, pending in ipairs(handler.pendings) do
      print(("pending: %s (%s)"):format(pending.name, tostring(pending.message or "no reason given")))
    end
    local bad = failed()
    if handler.successesCount + bad + #handler.pendings == 0 then
      print("no test was found")
      bad = 1
    end
    print(("%d passed, %d failed"):format(handler.successesCount, bad))
    os.exit(bad == 0 and 0 or 1, true)
  end)

  return handler
end

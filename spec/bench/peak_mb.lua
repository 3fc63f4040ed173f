--- The highest resident memory of this process, in MB (what getrusage calls ru_maxrss).
return function()
  for line in io.lines "/proc/self/status" do
    local kb = line:match "^VmHWM:%s*(%d+)"
    if kb then return kb / 1024 end
  end
end

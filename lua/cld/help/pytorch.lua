--- From PyTorch.
local pytorch = {rows={}}
function pytorch.find() end
return pytorch

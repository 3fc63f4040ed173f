--- InfoMin's loss (Tian et al., NeurIPS 2020; with jigsaw patches: PIRL, Misra and van der Maaten, CVPR 2020), and that
-- of InfoMin + CLD (Wang, Liu and Yu, CVPR 2021), which calls it for two views of an image.
--
--   local queue = cld.losses.moco_queue { size = 65536, dim = 128, temperature = 0.15, init = "normal" }
--   local infomin = cld.losses.infomin { queue = queue, beta = 0.5 }
--   local loss = infomin:loss(q1, q2, q_jig, k)              -- all (n, dim), rows of unit length
--   sgd:step(loss)                                           -- then the keys are in the queue
--
-- A call for a view q is (1 - beta) CE(q) + beta CE(q_jig), CE(x) being the queue's loss of x and the keys k: the mean
-- cross entropy of [x . k, x memory'] / temperature against class 0. With two views the loss is the mean of both calls.
--
-- double_enqueue follows the authors' code, which gave their published numbers: the keys are enqueued after each
-- call, so the second call sees its own positives in the queue too, and the queue holds every key twice. Otherwise
-- both calls see the queue before the step, and the keys are enqueued once.
local caller = require "cld.caller"
local class = require "cld.class"
local core = require "cld.core"
local is_tensor = core.tensor.is_tensor

local infomin = {}

local InfoMin = class.new "cld.losses.infomin"

function InfoMin:__tostring()
  local _ <close> = core.text.c_locale()
  return ("infomin: beta %g%s, %s"):format(self.beta, self.double_enqueue and ", keys twice" or "",
    tostring(self.queue))
end

--- new(options of losses.infomin, is_queue)
function infomin.new(options, is_queue)
  caller.require_fields("infomin", options, { "queue", "beta", "double_enqueue" })
  local beta = options.beta == nil and 0.5 or options.beta
  if not is_queue(options.queue) then
    caller.raise("infomin: queue is %s; expected one of cld.losses.moco_queue", caller.shown(options.queue))
  elseif type(beta) ~= "number" or not (beta >= 0 and beta <= 1) then
    caller.raise("infomin: beta is %s; expected 0 to 1", caller.shown(beta))
  elseif options.double_enqueue ~= nil and type(options.double_enqueue) ~= "boolean" then
    caller.raise("infomin: double_enqueue is %s; expected true or false", caller.shown(options.double_enqueue))
  end
  return setmetatable({
    queue = options.queue, beta = beta, double_enqueue = options.double_enqueue or false, keys = {},
  }, InfoMin)
end

local function check(self, q1, q2, q_jig, k)
  if not is_tensor(k) or #k.shape ~= 2 then
    caller.raise("infomin: the keys are %s; expected (n, %d)", caller.shown(k), self.queue.memory.shape[2])
  end
  local given = { q1 = q1, q2 = q2, q_jig = q_jig }
  for _, name in ipairs { "q1", "q2", "q_jig" } do
    local x = given[name]
    if name == "q1" or x ~= nil then
      if not is_tensor(x) or table.concat(x.shape, " ") ~= table.concat(k.shape, " ") then
        caller.raise("infomin: %s is %s, the keys are %s; expected the same shape", name, caller.shown(x),
          caller.shown(k))
      end
    end
  end
  local size = self.queue.memory.shape[1]
  if size < k.shape[1] then
    caller.raise("infomin: %d keys do not fit into a queue of %d; expected a queue of a batch or more", k.shape[1],
      size)
  end
end

-- The queue after the keys are enqueued: a copy, since a skipped step must not change the queue.
local function with_keys(queue, k)
  local _ <close> = core.autograd.no_grad()
  local memory, pointer <close> = queue.memory:clone(), queue.pointer:clone()
  core.losses.enqueue(memory, pointer, k)
  return memory
end

-- The keys to enqueue with this part of a step (nn.blocks): all keys in order with the last part, nil before that.
local function collected(self, k, part)
  if not part or part.count >= part.total then return k end
  if part.done == 0 then self.keys = {} end
  table.insert(self.keys, k)
  if part.done + part.count < part.total then return nil end
  local keys = core.tensor.cat(self.keys, 1)
  self.keys = {}
  return keys
end

--- infomin_loss:loss(q1, q2, q_jig, k[, part]) -> loss: the mean over the images. q1, q2, q_jig and k are (n, dim); q2
-- and q_jig may be nil: one call, without patches. The gradient flows to the queries only. When a backward through the
-- loss has run, the keys are in the queue; nothing is enqueued if the step is skipped. part: of nn.blocks, if these
-- are a part of the step's images: all keys are enqueued after the last part's backward, so that keys of several ranks
-- are in the batch's order. double_enqueue needs all keys of a step in one call.
function InfoMin:loss(q1, q2, q_jig, k, part)
  check(self, q1, q2, q_jig, k)
  local queue, keys = self.queue, collected(self, k, part)
  local function entropy(x, memory)
    return caller.call("infomin", core.losses.queue_loss, x, k, memory, queue.temperature)
  end
  local function call(q, memory)
    if not q_jig then return entropy(q, memory) end
    return entropy(q, memory) * (1 - self.beta) + entropy(q_jig, memory) * self.beta
  end
  local function then_enqueue(loss) return keys and queue:enqueue_after(loss, keys) or loss end
  if not q2 then return then_enqueue(call(q1, queue.memory)) end
  if self.double_enqueue then
    local later <close> = with_keys(queue, k) -- the tape does not need it
    local both = (call(q1, queue.memory) + call(q2, later)) / 2
    return queue:enqueue_after(queue:enqueue_after(both, k), k)
  end
  local views = (entropy(q1, queue.memory) + entropy(q2, queue.memory)) / 2
  if not q_jig then return then_enqueue(views) end
  return then_enqueue(views * (1 - self.beta) + entropy(q_jig, queue.memory) * self.beta)
end

return infomin

--- A training run: its folder, log, progress, checkpoints, and how it resumes.
--
--   local run = cld.run(opt)                                          -- opt of cld.options{..., cld.options.training}
--   run:describe { test_view = view, layer = "instance" }             -- for later users of its checkpoint
--   for epoch in run:epochs { net = net, sgd = sgd, loader = loader } do
--     for batch in loader:epoch(epoch) do
--       local rate = lr(run.step)                                     -- run.step counts all steps from 0
--       ...; sgd:step(loss, { lr = rate })
--       run:track({ loss = loss }, { lr = rate })                     -- once per step, at its end
--     end
--     run:evaluate(net, sets)                                         -- or run:score { top1 = accuracy }
--   end
--
-- runs/<name>/ holds options.json, versions.json, the recipe's source, log.jsonl and checkpoint.safetensors, with
-- --keep-checkpoints also those of other epochs (run/kept.lua), on a GPU also the plans of its convolutions, and at
-- the end report.html (run/ending.lua). A checkpoint has the state of every object given to run:epochs, the random
-- numbers' position, the meters and the position in the epoch, so that a resumed run continues bit for bit, even in
-- the middle of an epoch. The batch size, the number of epochs or the schedule may change on resume; the run then
-- continues from its position in epochs (run/README.md).
--
-- A signal that asks the run to stop ends the step, writes a checkpoint and exits with 128 plus its number: SIGINT,
-- SIGTERM, SIGHUP (the terminal was closed), SIGPIPE (nobody reads the output: `| head`), SIGUSR1, SIGUSR2 and SIGXCPU
-- (a batch system's warnings), SIGALRM, SIGVTALRM, SIGPWR. The first one counts; a later SIGINT exits at once, others
-- change nothing. A signal that was ignored when the program started stays ignored (nohup: SIGHUP; with SIGPIPE
-- ignored a run continues without its output). SIGQUIT (Ctrl-\) keeps its core dump. The evaluation at an epoch's end
-- (cld.eval) does not delay signals: the resumed run repeats it. After a signal, a recipe that breaks out of the loop
-- does not continue. Before the first epoch there is nothing to save, and signals exit at once.
--
-- The run holds its folder: if the folder is renamed or moved, the run continues in it; if it is removed or replaced,
-- the run ends with one line and status 1 (run/README.md).
--
-- run/README.md describes the log.
--
-- A training that has diverged (run/divergence.lua) ends with one line and status 1, and keeps its last good
-- checkpoint.
--
-- Sums in f32 differ in their last bits between numbers of threads, so the number is one of the run's settings. The
-- value that --threads 0 stood for is stored, and a resumed run uses it again unless another is given. It does so on a
-- machine with fewer cores too, even if that is slower; it says so, and --threads trades the last bits for speed.
local caller = require "cld.caller"
local class = require "cld.class"
local core = require "cld.core"
local user_error = require "cld.user_error"
local data_loader = require "cld.data.loader"
local diagnostics = require "cld.diagnostics"
local dist = require "cld.dist"
local extract = require "cld.eval.extract"
local board = require "cld.run.board"
local checkpoint = require "cld.run.checkpoint"
local description = require "cld.run.description"
local figures = require "cld.run.figures"
local folder = require "cld.run.folder"
local kept = require "cld.run.kept"
local divergence = require "cld.run.divergence"
local ending = require "cld.run.ending"
local evaluation = require "cld.run.evaluation"
local new_meters = require "cld.run.meters"
local options = require "cld.options"
local order = require "cld.run.order"
local plans = require "cld.run.plans"
local plans_of_job = require "cld.plans"
local position = require "cld.run.position"
local progress = require "cld.run.progress"
local ranks = require "cld.run.ranks"
local record = require "cld.run.record"
local replicas = require "cld.run.replicas"
local say = require "cld.say"
local settings = require "cld.run.settings"
local system, c_locale = core.system, core.text.c_locale

local run = {}

local pending_task -- for the next run.task
local function in_session() return package.loaded["cld.repl"] ~= nil end

-- Runs a recipe's file. Before a session (cldlua -i) its local variables are kept for the prompt, like those of the
-- recipe that runs it.
local function run_file(path)
  local variables = not in_session() and package.loaded["cld.repl.locals"]
  if not variables then return dofile(path) end
  local f, message = variables.load_file(path)
  if not f then error(message, 0) end
  f()
end

local in_recipe -- {run = the one made last} while run.recipe runs a recipe

--- cld.run.recipe(path[, task]) -> the run that it made, now ended: runs another recipe; its path is relative to the
-- caller's. For recipes that only change another's defaults (cld.options.defaults), and with `task` its images: see
-- cld.run.task.
--
--   cld.options.defaults { clusters = 10, batch_size = 128 }
--   cld.run.recipe("cifar10_npid_cld.lua", {
--     about = "NPID + CLD on my photos", options = { { "data", "./photos", "a folder" }, cld.options.images },
--     sets = function(opt)
--       local set = cld.data.folder { root = opt.data }
--       return { train = set, views = cld.augment.base { size = opt.size } }
--     end,
--   })
--
-- After `cldlua -i` the recipe's local variables are at the prompt too.
function run.recipe(path, task)
  local here = debug.getinfo(2, "S").source:match "^@(.*/)" or ""
  path = path:find "^/" and path or here .. path
  local outer, made = in_recipe, {}
  local _ <close> = setmetatable({}, { __close = function() in_recipe = outer end })
  pending_task, in_recipe = task, made
  record.add_source(path)
  run_file(path)
  if pending_task then caller.raise("run.recipe: '%s' takes no task", path) end
  if outer then outer.run = made.run end
  return made.run
end

--- cld.run.task{name = value} -> table: these fields, or those that the recipe which runs this one has given instead.
-- By convention `about` and `options` go to cld.options, and `sets(opt)` returns {train =, views =} and the sets for
-- the evaluation: test, the queries (without them there is no kNN accuracy); memory, if it is not train; test_view, if
-- the images need more than normalization.
function run.task(fields)
  local given = pending_task or {}
  pending_task = nil
  for name in pairs(given) do
    if fields[name] == nil then caller.raise("run.recipe: the recipe has no task '%s'", tostring(name)) end
  end
  return setmetatable(given, { __index = fields })
end

--- cld.run.load(path[, declarations]) -> {path =, options =, position =, description =, states = {name = {name =
-- tensor}}, unread =}: the content of a checkpoint, or of the checkpoint in a run's folder. The declarations, as
-- cld.options takes them, are those of the options that the caller needs: the checkpoint's options must fit them. Use
-- cld.models.load to get the network.
run.load = checkpoint.load

--- cld.run.restore(loaded, {net = net, ...}): copies the states that cld.run.load returned into these objects, in
-- place.
function run.restore(loaded, objects) checkpoint.restore(loaded, objects, true) end

local Run = class.new "cld.run"

-- ---- starting ---------------------------------------------------------------

-- Continues from the folder's checkpoint; returns a list of the settings that the user changed.
local function continue(self)
  local held, path = self.claim.held, self.folder .. "/options.json"
  local stored = dist.shared(function()
    record.check_recipe(held, self.folder)
    if held:exists(self.claim.file) then self.loaded = checkpoint.load(self.checkpoint) end
    if held:where() ~= self.folder then -- the checkpoint was read by its path: is it ours?
      user_error.raise("the run folder '%s' was moved, removed or replaced while it was read", self.folder)
    end
    return { options = not self.loaded and record.read_options(held, path) or nil }
  end)
  self.loaded = checkpoint.of_all(self.loaded)
  if not self.loaded then return settings.adopt(path, self.opt, stored.options) end
  local loaded = self.loaded
  local started_in = loaded.description and loaded.description.folder
  return settings.adopt(self.checkpoint, self.opt, loaded.options, loaded.position.ranks, started_in)
end

--- cld.run(opt): opt is what cld.options returned, or a plain table with at least `epochs`. Takes the run folder,
-- seeds the random numbers, sets the number of threads and prints the settings.
local function start(opt)
  local _ <close> = c_locale()
  if type(opt) ~= "table" then caller.raise("run: expected what cld.options returned, got %s", caller.shown(opt)) end
  if math.type(rawget(opt, "epochs")) ~= "integer" then caller.raise "run: the options lack an integer 'epochs'" end
  if not in_session() then system.leave_on_signals() end
  local self = setmetatable({
    opt = opt, step = 0, step_in_epoch = 0, images_seen = 0, epochs_done = 0, seconds = 0, best = nil,
    meters = new_meters(), now = {}, rounds = 1, kept_epoch = 0,
  }, Run)
  local resume = settings.get(opt, "resume")
  board.check(opt)
  self.sources = record.sources()
  ranks.check_alike(opt, self.sources)
  self.claim = folder.claim_for_all {
    runs = settings.get(opt, "runs"), name = settings.get(opt, "name"), resume = resume,
  }
  self.folder, self.held = self.claim.path, self.claim.held
  self.checkpoint = self.folder .. "/" .. self.claim.file
  self.changed = self.claim.continues and continue(self) or {}
  options.check_needs(opt)
  self.is_kept = self.loaded ~= nil -- a checkpoint exists
  settings.set_up_process(opt)

  record.print(self.folder, opt)
  self.given_plans = self.loaded and plans.use(self.held, rawget(opt, "device")) or {}
  if #self.changed > 0 then say("changed on resume: " .. table.concat(self.changed, ", ")) end
  if resume and not self.loaded then
    say("nothing to resume in " .. self.folder .. ": starting from the first epoch")
  end
  io.stdout:flush() -- a signal before the first epoch exits without flushing
  if in_recipe then in_recipe.run = self end
  return self
end

setmetatable(run, { __call = function(_, opt) return start(opt) end })

-- ---- the loop over epochs ---------------------------------------------------

-- Everything that a checkpoint holds, by name.
local function stateful(self, objects)
  local states = { meters = self.meters }
  for name, value in pairs(objects) do
    local object = checkpoint.object(value)
    if object then
      if type(name) ~= "string" or not name:find "^[A-Za-z0-9_]+$" or states[name] then
        caller.raise("run:epochs: '%s' cannot be the name of an object", tostring(name))
      end
      states[name] = object
    elseif name ~= "loader" then
      caller.raise("run:epochs: '%s' cannot be saved: it has no state_dict, and is not a tensor or a table of tensors",
        tostring(name))
    end
  end
  return states
end

-- All epochs of the run.
local function total(self) return self.opt.epochs * self.rounds end

local function resume(self)
  local stored, held = self.loaded.position, self.held
  local now = order.of(self.opt, self.loader)
  order.check(self.loaded, now)
  local ok, problem = pcall(checkpoint.restore, self.loaded, self.states)
  if not ok then
    local anew = #self.changed > 0 and "; changed options: " .. table.concat(self.changed, ", ") or ""
    user_error.raise("%s%s%s", tostring(problem), order.explain(self.loaded, now), anew)
  end
  core.tensor.set_rng_state(stored.rng)
  self.meters:scale(position.resume(self, stored))
  self.best, self.seconds, self.loaded = stored.best, stored.seconds, nil
  self.kept_epoch = stored.epoch
  dist.shared(function()
    user_error.call(kept.go_on, held, self.claim.file, stored, settings.get(self.opt, "keep_checkpoints"))
    return {}
  end)
  record.update(held, self.opt, self.sources, self.epochs_done)
  say(("resumed from %s, after %s%s"):format(self.checkpoint, position.describe(self),
    self.epochs_done >= total(self) and ": nothing is left to do" or ""))
end

-- The loop has ended, for whatever reason: releases the folder, since `self` may live on in a session.
local function let_go(self)
  self.folder = self:where()
  self.held:close()
  if self.board then self.board:close() end
  self.board, self.evaluated, self.held, self.claim, self.states, self.epoch = nil, nil, nil, nil, nil, nil
end

-- Whether a loader measures how long the step waited for its batches.
local function has_waited(loader) return type(loader) == "table" and type(rawget(loader, "waited")) == "number" end

--- run:describe{test_view =, layer = "instance"|"features", knn = {k =, temperature =}, source =}: what the checkpoint
-- records about its networks besides how they are made (run/description.lua): the augmentation of test images, the
-- output that is compared, and how; knn is by default that of the options. Before run:epochs.
function Run:describe(given)
  if self.states then caller.raise "run:describe: call it before run:epochs" end
  self.described = description.fields(given)
end

--- run:repeats(n): the run is n trainings of opt.epochs in sequence, such as a grid of settings; its epochs are those
-- of all of them. Before run:epochs.
function Run:repeats(n)
  if self.states then caller.raise "run:repeats: call it before run:epochs" end
  if math.type(n) ~= "integer" or n < 1 then
    caller.raise("run:repeats: expected a number of trainings, got %s", tostring(n))
  end
  self.rounds = n
end

--- run:epochs{name = object, ...} -> iterator: for epoch in run:epochs { net = net, sgd = sgd, loader = loader } do: 1
-- to opt.epochs, or the epochs that a resumed run has left. The objects have state_dict and load_state_dict, or are
-- tensors, or tables {name = tensor}, which are restored in place. A loader needs no state: on resume in the middle of
-- an epoch, loader.first_image (counted from 0) makes it begin at the image where the run stopped.
function Run:epochs(objects)
  local _ <close> = c_locale()
  if not self.held then caller.raise "run:epochs: this run has ended; cld.run with resume = true continues it" end
  if type(objects) ~= "table" then
    caller.raise("run:epochs: expected {name = object, ...}, got %s", caller.shown(objects))
  end
  self.states, self.loader = stateful(self, objects), objects.loader
  dist.check_alike(order.of(self.opt, self.loader), order.named)
  self.counters = divergence.counters(objects)
  self.description = description.of(objects, self.described, self.opt)
  self.shape = position.shape(self.loader, self.opt)
  self.steps_per_epoch = self.shape.steps
  if self.loaded then resume(self) else record.write(self.held, self.opt, self.sources) end
  self.log = record.open_log(self.held)
  self.log {
    event = "start", epoch = self.epochs_done, step = self.step, steps_per_epoch = self.steps_per_epoch,
    versions = system.versions(),
  }
  self.line = progress.new {
    epochs = total(self), steps_per_epoch = self.steps_per_epoch, every = settings.get(self.opt, "print_every"),
    waited = has_waited(self.loader) and function() return self.loader.waited end or nil,
  }
  if dist.rank == 0 then self.board = board.open(self) end
  self.logged, self.resumed_at = system.clock(), system.clock()
  self.of_ranks = not dist.alone and ranks.new(self.line.waited) or nil
  system.catch_signals { interrupt = not in_session() } -- in a session Ctrl-C raises an error, as everywhere
  extract.on_batch = function() self:heed_signal_in_evaluation(self:agree {}) end
  extract.on_not_finite = function(problem) self:end_diverged(problem) end
  data_loader.on_signal = function(loader) self:heed_signal_while_waiting(loader) end
  local close = setmetatable({}, { __close = function(_, problem)
    if not problem then self:heed_signal_at_break() end
    extract.on_batch, extract.on_not_finite, data_loader.on_signal = nil, nil, nil
    system.restore_signals()
    let_go(self)
  end })
  return function() return self:next_epoch() end, nil, nil, close
end

function Run:next_epoch()
  local _ <close> = c_locale()
  if self.epoch then self:end_epoch() end
  if self.epochs_done >= total(self) then return nil end
  self.epoch = self.epochs_done + 1
  self.reported = self.step_in_epoch > 0 and self.step_in_epoch == self.steps_per_epoch -- stopped in its evaluation
  self.watch = divergence.watch(self.counters)
  self.is_whole = self.images_seen == 0
  position.begin_epoch(self)
  self.line:start_epoch()
  if self.of_ranks then self.of_ranks:begin() end
  return self.epoch
end

function Run:end_epoch()
  self:report_epoch()
  replicas.check(self.states)
  self:exchange_plans()
  position.end_epoch(self)
  self.epoch = nil
  self.meters:reset()
  local last = self.epochs_done == total(self)
  local signal = self:agree({}).signal
  if last or signal or self.epochs_done % settings.get(self.opt, "save_every") == 0 or self:is_best_kept() then
    self:save()
  end
  if last then
    self:remember { event = "end" }
    self.line:print(("done: %d epoch%s in %s; %s/%s"):format(total(self), total(self) == 1 and "" or "s",
      progress.duration(self:elapsed()), self:where(), folder.checkpoint))
    if not signal and dist.rank == 0 then ending.of(self) end
  end
  if signal then self:leave(signal) end
end

-- ---- what the ranks agree on -------------------------------------------------

--- run:agree{report = boolean} -> {signal = number or nil, report = boolean}: the same on all ranks: whether any rank
-- has received a signal or has to print. A single process knows at once; several ranks know at the next call.
function Run.agree(_, wishes)
  local _, number = system.interrupted()
  local signal, report = dist.agree(number or 0, wishes.report and 1 or 0)
  return { signal = signal > 0 and signal or nil, report = report > 0 }
end

-- ---- steps, scores ----------------------------------------------------------

-- "instance 9.1  lr 0.03  skipped 2": means, current values, and the number of skipped steps.
local function shown(self, means, skipped)
  local text = progress.values(means)
  if next(self.now) then text = text .. "  " .. progress.values(self.now) end
  return skipped > 0 and ("%s  skipped %d"):format(text, skipped) or text
end

-- The text that the progress line and the epoch's line share; `draw(text)` prints it.
local function tell(self, event, images_per_second, draw)
  local means, skipped = self.meters:read(), divergence.skipped(self.counters)
  draw(shown(self, means, skipped))
  return {
    event = event, means = means, now = next(self.now) and self.now or nil, skipped = skipped,
    images_per_second = images_per_second, data_wait = self.line:data_share(),
  }
end

-- Writes a line of the log: the run's position, and `fields`. If its folder is gone the run ends here: it cannot save.
function Run:remember(fields)
  fields.epoch, fields.step, fields.seconds = self.epoch or self.epochs_done, self.step, self:elapsed()
  self.log(fields)
  if self.board then self.board:log(fields) end
  self.logged = system.clock()
  self:check_folder()
end

-- The folder's current path: a run continues in a folder that was moved.
function Run:where() return self.held and self.held:where() or self.folder end

function Run:check_folder()
  if self.held:where() then return end
  self.line:clear()
  user_error.raise("the run folder '%s' was removed or replaced while the run was running: its checkpoint could not be"
    .. " kept, and the run ends after %s", self.folder, position.describe(self))
end

function Run:elapsed() return self.seconds + system.clock() - self.resumed_at end

-- The ranks exchange their choices of convolution algorithms: from here on all use the same.
function Run:exchange_plans()
  plans_of_job.exchange(rawget(self.opt, "device"))
  self.has_exchanged = true
end

--- run:track({name = value}[, now]): call it once per step, at its end. Running means of the values (tensors of one
-- element, or numbers) over the epoch are printed and logged. now: values printed as they are at this step, without a
-- mean, such as { lr = rate }. After a signal it writes a checkpoint and exits.
function Run:track(values, now)
  local _ <close> = c_locale()
  if not self.epoch then caller.raise "run:track: call it inside `for epoch in run:epochs{...}`" end
  figures.check("run:track", values)
  self.now = now and figures.numbers("run:track", now) or {}
  local images, share = position.advance(self)
  self.meters:track(values, share)
  if not self.has_exchanged then self:exchange_plans() end
  local agreed = self:agree { report = self.line:step(self.shape.batch_size and images or 0) and dist.rank == 0 }
  if self.step_in_epoch == self.steps_per_epoch then
    self:report_epoch() -- before the evaluation, whose time does not count
  elseif agreed.report then
    self:report_progress()
  end
  self:heed_signal(agreed)
end

function Run:report_progress()
  local told = tell(self, "progress", self.line:speed(), function(text) self.line:draw(self, text) end)
  if system.clock() - self.logged < settings.get(self.opt, "print_every") then return end
  told.step_in_epoch = self.step_in_epoch
  self:remember(told)
end

-- The line about an epoch's steps, once: when the first score comes or the epoch ends.
function Run:report_epoch()
  if self.reported then return end
  self.reported = true
  local told = tell(self, "epoch", self.line:epoch_speed(), function(text)
    self.line:finish_epoch(self.epoch, text)
  end)
  told.ranks = self.of_ranks and self.of_ranks:told(self.line.epoch_steps)
  self:remember(told)
  if self.of_ranks and settings.get(self.opt, "print_ranks") then
    for _, text in ipairs(self.of_ranks:lines(self.line.epoch_steps)) do self.line:print(text) end
  end
  self:check_divergence(self.is_whole and self.line.epoch_steps or nil)
end

-- Ends a run that has diverged; its last good checkpoint stays. `steps`: the number of steps, if all were skipped.
function Run:check_divergence(steps)
  local problem = self.watch:problem(self.states, steps)
  if problem then self:end_diverged(problem) end
end

function Run:end_diverged(problem)
  self.line:clear()
  user_error.raise("epoch %d: %s: the training has diverged (is the learning rate too high?)%s", self.epoch, problem,
    self.is_kept and ("; %s/%s is unchanged"):format(self:where(), folder.checkpoint) or "; there is no checkpoint")
end

--- run:score{top1 =, top5 =}: the epoch's accuracy, as shares. Logs and prints it, and keeps the best: run.best is
-- {epoch =, name = "top1", value =}.
function Run:score(values)
  local _ <close> = c_locale()
  if not self.epoch then caller.raise "run:score: call it inside `for epoch in run:epochs{...}`" end
  values = figures.scores(values)
  self:report_epoch()
  local name, value = figures.main_score(values)
  if math.abs(value) < math.huge and (not self.best or value > self.best.value) then
    self.best = { epoch = self.epoch, name = name, value = value }
  end
  local best = self.best
  self.line:print(("epoch %d/%d  %s%s"):format(self.epoch, total(self), figures.percentages(values),
    best and ("  (best %s %.2f %%, epoch %d)"):format(best.name, 100 * best.value, best.epoch) or ""))
  self:remember { event = "score", values = values, best = self.best }
end

--- run:diagnose{effective_rank =, ...}: values that describe the training without labels (cld.diagnostics), at an
-- epoch's end. They are printed and logged. Together with the epoch's mean of uniformity they may show a collapse,
-- which does not end the run. An effective rank of NaN does: the features are not finite.
function Run:diagnose(values)
  local _ <close> = c_locale()
  if not self.epoch then caller.raise "run:diagnose: call it inside `for epoch in run:epochs{...}`" end
  values = figures.numbers("run:diagnose", values)
  self:report_epoch()
  local uniformity = self.meters:read().uniformity or values.uniformity
  local collapse = diagnostics.collapse { effective_rank = values.effective_rank, uniformity = uniformity }
  self.line:print(("epoch %d/%d  %s"):format(self.epoch, total(self), progress.values(values)))
  if collapse then self.line:print(("epoch %d/%d  %s"):format(self.epoch, total(self), collapse)) end
  self:remember { event = "diagnostics", values = values, collapse = collapse }
  local rank = values.effective_rank
  if rank and rank ~= rank then self:end_diverged "features of the training images are not finite" end
end

--- run:evaluate(net, {train =, views =, test =, memory =, test_view =}): at an epoch's end, the evaluation that
-- cld.options.knn, workers and block ask for. Figures without labels (run/evaluation.lua) go to run:diagnose: the
-- effective rank of the pooled features of training images; with the training's `views` also nmi, alignment and
-- uniformity. With `test` the accuracy of kNN goes to run:score. Its memory is `memory`, or else `train`; its layer is
-- that of run:describe.
function Run:evaluate(net, sets)
  local _ <close> = dist.whole_batch()
  evaluation.of(self, net, sets, self.described and self.described.layer)
end

-- ---- checkpoints ------------------------------------------------------------

local function keep_plans(self)
  self:exchange_plans()
  local changed = plans.keep(self.held, rawget(self.opt, "device"), self.given_plans)
  if changed == 0 then return end
  self.line:print(("%d of the run's convolutions cannot be computed as before, and were chosen anew"):format(changed))
  self.given_plans = {}
end

-- Whether the epoch that has just ended is the best so far and its checkpoint is kept: the same on all ranks.
function Run:is_best_kept()
  if settings.get(self.opt, "keep_checkpoints") == 0 then return false end
  return dist.shared(function() return { self.best and self.best.epoch == self.epochs_done or false } end)[1]
end

-- Gives the checkpoint of an epoch's end its further names (run/kept.lua). If that fails, the checkpoint is still safe.
local function keep(self)
  local ok, message = pcall(kept.after, self.held, self.epochs_done, self.best and self.best.epoch,
    settings.get(self.opt, "keep_checkpoints"), self.kept_epoch)
  self.kept_epoch = self.epochs_done
  if ok then return end
  self:check_folder()
  self.line:print(tostring(message) .. "; checkpoint.safetensors is written, and the training goes on")
end

--- run:save(): writes the checkpoint now, between two steps.
function Run:save()
  local _ <close> = c_locale()
  if not self.states then caller.raise "run:save: call it inside `for epoch in run:epochs{...}`" end
  if self.epoch then self:check_divergence() end
  self.meters:settle()
  keep_plans(self) -- before the checkpoint that a resumed run uses
  local stored = position.store(self)
  stored.ranks = dist.world
  stored.seconds, stored.best, stored.rng = self:elapsed(), self.best, core.tensor.get_rng_state()
  stored.order = order.of(self.opt, self.loader)
  dist.shared(function()
    local ok, message = pcall(checkpoint.save, self.held, folder.checkpoint, self.states, {
      options = record.plain(self.opt), epoch = self.epochs_done, versions = system.versions(), position = stored,
      description = self.description,
    })
    if ok and not self.epoch then keep(self) end
    if ok then return end
    self:check_folder()
    self.line:clear()
    user_error.raise("%s%s", tostring(message),
      self.is_kept and "; the previous checkpoint is unchanged" or "")
  end)
  self.is_kept = true
end

function Run:heed_signal(agreed)
  if not agreed.signal then return end
  self:save()
  self:leave(agreed.signal)
end

-- Only at the epoch's end: earlier, the optimizer may have made a step that run:track has not counted yet.
function Run:heed_signal_in_evaluation(agreed)
  if self.epoch and self.step_in_epoch == self.steps_per_epoch then self:heed_signal(agreed) end
end

-- The training's own loader waits between two steps, all of which run:track has counted. With several ranks, each
-- waits on its own, and they react at their next exchange.
function Run:heed_signal_while_waiting(loader)
  if not dist.alone then return end
  local agreed = self:agree {}
  if rawequal(loader, self.loader) then self:heed_signal(agreed) else self:heed_signal_in_evaluation(agreed) end
end

-- The loop was left by a break or a return after a signal. In the middle of an epoch no checkpoint is written: the
-- optimizer may have made a step that run:track has not counted.
function Run:heed_signal_at_break()
  if self.is_leaving then return end
  self:agree {} -- with several ranks the next call learns of it
  local agreed = self:agree {}
  if not agreed.signal then return end
  if self.epoch and self.reported then self:save() end
  self:leave(agreed.signal)
end

-- Exits after a signal, once the checkpoint is written.
function Run:leave(number)
  self.is_leaving = true
  local name = system.signal_name(number)
  self:remember { event = "interrupted", signal = name }
  local where = position.describe(self)
  local then_what = self.epochs_done >= total(self) and "the run is complete (recipes/report.lua makes its report)"
    or ("--resume %s continues"):format(self:where())
  system.catch_signals() -- until the very end: a closed pipe must not change the status
  self.line:print(("interrupted (SIG%s) after %s; %s"):format(name, where, then_what))
  core.dist.leave()
  os.exit(128 + number, true)
end

return run

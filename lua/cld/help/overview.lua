--- What help() lists, in groups: the modules and functions that a user calls. `internal` are the parts of the
-- library itself: help "NAME" describes them, and help "cld" lists them. spec/help_spec.lua fails if a name is in no
-- group.
local overview = {}

overview.modules = {
  { "Training", "nn", "models", "losses", "optim", "schedule", "autograd" },
  { "Data", "data", "augment", "image" },
  { "Runs", "options", "run", "eval", "diagnostics", "report", "tensorboard", "dist" },
  { "Plots, files, devices", "plot", "io", "json", "text", "cuda" },
}

overview.functions = {
  { "new tensors", "tensor", "zeros", "ones", "full", "empty", "zeros_like", "ones_like", "full_like", "empty_like",
    "arange", "linspace", "eye", "is_tensor" },
  { "random numbers", "manual_seed", "rand", "randn", "randint", "randperm", "rand_like", "randn_like",
    "get_rng_state", "set_rng_state" },
  { "of several tensors", "cat", "stack", "where", "einsum" },
  { "gradients and precision", "no_grad", "enable_grad", "is_grad_enabled", "Function", "precision", "set_precision" },
  { "steps", "graph", "timeit" },
  { "files", "load", "save" },
  { "the machine", "get_num_threads", "set_num_threads", "memory", "reset_peak", "host", "versions", "built_with" },
  { "programs", "help", "leave_on_signals", "terminal", "terminal_rows", "clock", "sleep" },
}

overview.internal = {
  modules = { "dataset", "download", "files", "loader", "views" },
  functions = { "catch_signals", "check_fields", "control_groups", "edit_distance", "interrupted", "philox",
    "restore_signals", "signal_name", "tensors_alive" },
}

return overview

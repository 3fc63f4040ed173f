# make test-interop-tensorboard: what TensorBoard's own readers see of runs that were killed and resumed, where PYTHON has it.
PYTHON ?= python3
test-interop-tensorboard: all
	$(Q)$(BUILD)/cldlua spec/interop/tensorboard.lua $(PYTHON)

.PHONY: test-interop-tensorboard

# make test-interop-tensorboard: what TensorBoard's own readers see of killed and resumed runs, if PYTHON has
# TensorBoard.
PYTHON ?= python3
test-interop-tensorboard: all
	$(Q)$(BUILD)/cldlua spec/interop/tensorboard.lua $(PYTHON)

.PHONY: test-interop-tensorboard

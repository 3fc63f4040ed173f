# Programs that the specs run, for the Makefile: TEST_PROGRAMS are what `make test` needs, CUDA_PROGRAMS run on a GPU.

# Each of these is one file, linked with the plugin's own objects: in build/spec for the host, in build/cuda/spec for a
# GPU.
PROGRAMS      := $(basename $(notdir $(wildcard spec/support/cuda_*.cu)))
HOST_PROGRAMS := $(PROGRAMS:%=$(BUILD)/spec/%)
CUDA_PROGRAMS := $(if $(HAVE_CUDA),$(PROGRAMS:%=$(BUILD)/cuda/spec/%))

$(HOST_PROGRAMS) $(CUDA_PROGRAMS): spec/support/plugin_host.h
$(BUILD)/spec/cuda_comm $(BUILD)/cuda/spec/cuda_comm: spec/support/cuda_comm.h
$(BUILD)/spec/%: spec/support/%.cu $(HOST_OBJ)
	@mkdir -p $(@D)
	@echo "  CXX   $< (host)"
	$(Q)$(CXX) -std=gnu++17 $(HOST_COMMON) -o $@ -x c++ $< -x none $(HOST_OBJ) $(LDFLAGS) $(HOST_LIBS)

$(BUILD)/cuda/spec/%: spec/support/%.cu $(CUDA_OBJ)
	@mkdir -p $(@D)
	@echo "  NVCC  $<"
	$(Q)$(filter-out -Xptxas -v,$(CUDA_NVCC)) -c -o $@.o $<
	$(Q)$(CC) -o $@ $@.o $(CUDA_OBJ) $(LDFLAGS) $(CUDA_LIBS)

$(BUILD)/spec/pty: spec/support/pty.c $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) -std=gnu11 $(WARN) $(CFLAGS) -o $@ $< -lutil

$(BUILD)/spec/server: spec/support/server.c $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) -std=gnu11 $(WARN) $(CFLAGS) -o $@ $<

$(BUILD)/spec/failing_files.so $(BUILD)/spec/stalling.so: $(BUILD)/spec/%.so: spec/support/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) -std=gnu11 -fPIC -shared $(WARN) $(CFLAGS) -o $@ $< -ldl

# Error messages, for programs that link little else.
CORE_TEXT := $(patsubst %,$(BUILD)/obj/runtime/core/%.o,error text)

# What a rank learns from its launcher, and its cores: spec/launcher_spec.lua, spec/cores_spec.lua.
RANK_PARTS := $(patsubst %,$(BUILD)/obj/runtime/%.o,dist/launcher dist/cores core/limits) $(CORE_TEXT)
$(BUILD)/spec/rank: spec/support/rank.c $(RANK_PARTS) $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(COMMON) $(CFLAGS) -o $@ $< $(RANK_PARTS) $(LDFLAGS) -lm

# Jobs under the watch over ranks, without MPI: spec/watch_spec.lua.
WATCH := $(call OBJ,$(wildcard runtime/dist/watch*.c) runtime/dist/board.c $(addprefix runtime/core/,error.c text.c process.c limits.c workers.c))
$(BUILD)/spec/watch: spec/support/watch.c $(WATCH)
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(COMMON) $(CFLAGS) -MMD -MP -MT $@ -MF $@.d -o $@ $< $(WATCH) $(LDFLAGS) -lpthread -lm
-include $(BUILD)/spec/watch.d

# What the CUDA emulator promises its kernels, and what it does about mistakes: spec/emulator_spec.lua.
EMULATOR       := $(patsubst %,$(BUILD)/cuda_host/host/%.cpp.o,launch fiber device traffic) $(CORE_TEXT)
EMULATOR_TESTS := $(addprefix $(BUILD)/spec/emulator_,test mistakes)
$(EMULATOR_TESTS): $(BUILD)/spec/%: spec/support/%.cu $(EMULATOR) $(BUILD)/cuda_host/flags
	@mkdir -p $(@D)
	@echo "  CXX   $< (host)"
	$(Q)$(CXX) -std=gnu++17 $(HOST_COMMON) -MMD -MP -MT $@ -MF $@.d -o $@ -x c++ $< -x none $(EMULATOR) -lpthread -lm
-include $(EMULATOR_TESTS:=.d)

# blas.h and dnn.h by themselves, for spec/cuda_libraries_spec.lua: the loops on the host, and if CUDA is installed the
# libraries, with a GPU, and without one as far as possible.
$(BUILD)/spec/%.o: spec/support/% $(BUILD)/cuda_host/flags
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(if $(filter %.c,$<),$(CC) -std=gnu11,$(CXX) -std=gnu++17) $(HOST_COMMON) $(CUDA_INC) -MMD -MP -c -o $@ $<

HOST_DEVICE := $(addprefix $(BUILD)/cuda_host/,$(addsuffix .o,memory.c pool.c fault.c plans.c host/device.cpp host/launch.cpp host/fiber.cpp host/traffic.cpp))
CUDA_DEVICE := $(addprefix $(BUILD)/cuda/,$(addsuffix .o,memory.c pool.c fault.c device.c staging.c blas.c dnn.c dnn_plan.c dnn_libraries.c plans.c tune.c compare.cu))
$(BUILD)/spec/cuda_libraries_host: $(BUILD)/spec/cuda_libraries.cpp.o $(HOST_DEVICE) $(BUILD)/cuda_host/host/blas.cpp.o $(BUILD)/cuda_host/host/dnn.cpp.o
$(BUILD)/spec/cuda_blas: $(BUILD)/spec/cuda_libraries.cpp.o $(BUILD)/spec/cuda_blas.c.o $(HOST_DEVICE) $(BUILD)/cuda_host/host/dnn.cpp.o
$(BUILD)/spec/cuda_plans: $(BUILD)/spec/cuda_plans.c.o $(BUILD)/cuda/plans.c.o $(BUILD)/cuda/tune.c.o
$(BUILD)/spec/cuda_libraries: $(BUILD)/spec/cuda_libraries.cpp.o $(CUDA_DEVICE)
# The real device.c, on a fake CUDA runtime.
$(BUILD)/spec/cuda_device: $(addprefix $(BUILD)/spec/cuda_,device.cpp.o runtime_fake.cpp.o) $(addprefix $(BUILD)/cuda/,$(addsuffix .c.o,memory pool fault graph lane device staging))
$(BUILD)/spec/cuda_nccl: $(BUILD)/spec/cuda_nccl.c.o $(BUILD)/cuda/nccl.c.o $(call OBJ,runtime/core/libraries.c) | $(BUILD)/spec/nccl/libnccl.so.2
CUDA_CHECKS := $(BUILD)/spec/cuda_libraries_host $(if $(HAVE_CUDA),$(addprefix $(BUILD)/spec/cuda_,blas plans libraries device nccl))
$(CUDA_CHECKS): $(CORE_TEXT)
	@echo "  LINK  $@"
	$(Q)$(CXX) $(SANITIZE) -o $@ $^ $(LDFLAGS) $(if $(HAVE_CUDA),$(CUDA_LIBS)) -lgomp -lpthread -lm
$(BUILD)/spec/nccl/libnccl.so.2: spec/support/cuda_nccl_fake.c
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) -std=gnu11 -fPIC -shared $(WARN) $(CFLAGS) -o $@ $<
-include $(wildcard $(BUILD)/spec/*.d)

# The interpreter with an allocator that fails when told to: spec/allocation_spec.lua.
WRAPPED := malloc calloc realloc aligned_alloc
$(BUILD)/failing.so: spec/support/failing.c $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) -std=gnu11 -O1 -fPIC -shared $(WARN) $(LUA_CFLAGS) $(SANITIZE) -o $@ $<

$(BUILD)/cldlua-failing: $(LIBOBJ) $(call OBJ,$(INTERP)) $(BUILD)/failing.so
	@echo "  LINK  $@"
	$(Q)$(CC) $(SANITIZE) -Wl,-E $(WRAPPED:%=-Wl,--wrap=%) -Wl,-rpath,'$$ORIGIN' -o $@ $^ $(LDFLAGS) $(LIBS) $(EDIT_LIBS)

# The interpreter with sums over ranks that run one after the other in one process: spec/norm_ranks_spec.lua.
$(BUILD)/ranks.so: spec/support/ranks.c $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(COMMON) -fvisibility=default $(CFLAGS) -MMD -MP -shared -o $@ $<
-include $(BUILD)/ranks.d

$(BUILD)/cldlua-ranks: $(LIBOBJ) $(call OBJ,$(INTERP)) $(BUILD)/ranks.so
	@echo "  LINK  $@"
	$(Q)$(CC) $(SANITIZE) -Wl,-E -Wl,--wrap=cld_all_reduce -Wl,-rpath,'$$ORIGIN' -o $@ $^ $(LDFLAGS) $(LIBS) $(EDIT_LIBS)

TEST_PROGRAMS := $(HOST_PROGRAMS) $(addprefix $(BUILD)/spec/,pty server rank watch failing_files.so stalling.so) $(BUILD)/cldlua-failing $(BUILD)/cldlua-ranks $(EMULATOR_TESTS) \
                 $(CUDA_CHECKS)

# Decoding image files, beside direct calls of libjpeg and libpng.
$(BUILD)/bench/decode: spec/bench/decode.c $(call OBJ,$(wildcard runtime/images/decode*.c) runtime/images/encode.c runtime/io/slurp.c \
                       $(addprefix runtime/core/,error.c text.c scratch.c))
	@mkdir -p $(@D)
	@echo "  CC    $@"
	$(Q)$(CC) $(COMMON) $(CFLAGS) -o $@ $^ $(LDFLAGS) -ljpeg -lpng16 -lm
bench-decode: $(BUILD)/bench/decode
	$(Q)$<
.PHONY: bench-decode

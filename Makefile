# cldlua. `make setup demo` from a clone to a trained model; `make setup test` runs every spec.
#
#   make            build/cldlua, build/cld/core.so (for a stock lua5.4), build/libcld_cuda.so if CUDA is installed
#   make setup      install the Debian packages that are missing
#   make demo       toy data, then the real recipe on it; demo-images, demo-moco: on image files
#   make test       every spec
#   make test-interop  PyTorch, torchvision, onnxruntime and safetensors read our files
#   make bench      the performance table, as ratios;  make bench-ranks: two ranks beside two threads
#   make bench-pretrain  recipes/pretrain.lua beside LightlyTrain's command;  make bench-tsne: t-SNE and scikit-learn's
#   make demo-check the demo for three seeds, with its margins checked
#   make compare-methods  every method with and without CLD on generated images; an hour
#   make select-check  how well the label-free rankings of recipes/select.lua agree with kNN
#   make report-check  reports in a headless Chromium, if there is one;  make pictures: the README's, from the demo
#   make ranks-check  every recipe on 1 to 4 ranks; jobs killed at random, on two machines, under Slurm; forty minutes
#   make test-interop-tensorboard  TensorBoard's own readers on our event files, if PYTHON=python3 has TensorBoard
#   make asan       every spec under AddressSanitizer and UBSan
#   make fuzz       the image decoders and the readers of PyTorch's, NumPy's and TensorBoard's files on damaged files,
#                   FUZZ_SECONDS=600 each
#   make lint       luacheck, clang-format, cppcheck
#   make gpu-count  nodes and bytes of a captured training step, counted without a GPU
#   make gpu-check  the CUDA backend against the CPU;  make gpu-bench: its table;  make bundle: to take to a GPU
#   make cuda-report  registers and spills of every CUDA kernel
#   make docs       HTML pages of everything that help() knows, in build/docs, and the man page build/cldlua.1
#   make install    the interpreter, the module for a stock lua5.4, recipes; PREFIX=/usr/local, DESTDIR=; make uninstall
#   make deb        Debian packages, in build/package;  make rock: a rockspec and its sources, also there
#   make package-check  both packages built, installed and used; some minutes
#   V=1 shows whole command lines; BUILD=dir builds elsewhere; CUDA_ARCH="80 90" are the GPUs to build for,
#   CUDA_ARCH= builds for none.

BUILD   ?= build
CC      ?= gcc
CXX     ?= g++
OPT     ?= -O3
WARN    ?= -Wall -Wextra
CFLAGS  ?= -g
PREFIX  ?= /usr/local
CUDA_ARCH ?= 80 90

.DEFAULT_GOAL := all

# As many jobs as there are cores, unless -j is given: nvcc is slow.
ifeq ($(filter -j%,$(MAKEFLAGS))$(filter clean,$(MAKECMDGOALS))$(MAKELEVEL),0)
MAKEFLAGS += -j$(shell nproc)
endif

# ---- make setup ----------------------------------------------------------------
# GNU make remakes the files it includes and then starts over, so in `make setup demo` the probes below see what setup
# has just installed.

PACKAGES := gcc g++ libc6-dev make pkg-config libdnnl-dev liblua5.4-dev lua5.4 lua-busted lua-argparse libjansson-dev libedit-dev \
            libjpeg62-turbo-dev libpng-dev zlib1g-dev libcurl4-openssl-dev libarchive-dev libprotobuf-c-dev protobuf-c-compiler \
            util-linux

ifeq ($(filter setup,$(MAKECMDGOALS)):$(MAKE_RESTARTS),setup:)
include $(BUILD)/setup.done
endif

$(BUILD)/setup.done: FORCE
	@mkdir -p $(@D)
	@if ! command -v apt-get dpkg-query >/dev/null; then \
	    echo "setup: there is no apt-get. Install the contents of these Debian packages, then run make:"; \
	    echo "  $(PACKAGES)"; \
	else \
	    for p in $(PACKAGES); do \
	        dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; \
	    done; \
	    if [ -n "$$missing" ]; then \
	        echo "setup: installing$$missing"; \
	        [ "$$(id -u)" = 0 ] || sudo=sudo; \
	        $$sudo apt-get update -qq && \
	        $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing || \
	        { echo "setup: failed; as root: apt-get install$$missing"; exit 1; }; \
	    else \
	        echo "setup: all packages are installed"; \
	    fi; \
	fi
	@touch $@

setup:
	@:

# ---- what is installed -----------------------------------------------------------

LUA_CFLAGS := $(shell pkg-config --cflags lua5.4 2>/dev/null)
LUA_LIBS   := $(shell pkg-config --libs lua5.4 2>/dev/null || echo -llua5.4)
# -Wno-psabi: vectors wider than the baseline's are passed only to functions that are always inlined.
COMMON     := -std=gnu11 $(OPT) $(WARN) -Wno-psabi -fopenmp -fno-math-errno -fno-trapping-math -fPIC -fvisibility=hidden -I. $(LUA_CFLAGS) $(SANITIZE)
LIBS       := $(LUA_LIBS) -ldnnl -ljansson -ljpeg -lpng16 -lz -lstdc++ -lgomp -lpthread -lm -ldl
# For the interpreter only; line editing is optional.
HAVE_EDIT  := $(shell pkg-config --exists libedit 2>/dev/null && echo 1)
ifeq ($(HAVE_EDIT),1)
EDIT_CFLAGS := -DCLD_HAVE_EDITLINE $(shell pkg-config --cflags libedit)
EDIT_LIBS   := $(shell pkg-config --libs libedit)
endif
# Downloads: only the headers are needed here, since the libraries are loaded on first use.
CURL_CFLAGS    := $(shell pkg-config --exists libcurl 2>/dev/null && echo -DCLD_HAVE_CURL $$(pkg-config --cflags libcurl))
ARCHIVE_CFLAGS := $(shell pkg-config --exists libarchive 2>/dev/null && echo -DCLD_HAVE_ARCHIVE $$(pkg-config --cflags libarchive))
# Files made of protobuf messages: ONNX, TensorBoard's events.
HAVE_PROTOBUF  := $(shell pkg-config --exists libprotobuf-c 2>/dev/null && command -v protoc-c >/dev/null && echo 1)
ifeq ($(HAVE_PROTOBUF),1)
PROTOBUF_CFLAGS := -DCLD_HAVE_PROTOBUF $(shell pkg-config --cflags libprotobuf-c) -I$(BUILD)
LIBS            += $(shell pkg-config --libs libprotobuf-c)
endif

# ---- end of settings ---------------------------------------------------------

RUNTIME  := $(wildcard runtime/*/*.c kernels/cpu/*.c kernels/cpu/*.cpp)
INTERP   := $(addprefix bindings/,main.c job.c launch.c relay.c waiting.c) $(wildcard bindings/repl*.c)
BINDINGS := $(filter-out $(INTERP),$(wildcard bindings/*.c))
OBJ      = $(patsubst %,$(BUILD)/obj/%.o,$(basename $(1)))
PROTOS   := $(if $(HAVE_PROTOBUF),$(patsubst runtime/io/%.proto,%,$(wildcard runtime/io/*.proto)))
LIBOBJ   := $(call OBJ,$(RUNTIME) $(BINDINGS)) $(PROTOS:%=$(BUILD)/obj/proto/%.pb-c.o)

Q := $(if $(V),,@)

# The texts of help, collected from the sources (lua/cld/help/write.lua).
HELP_TEXT    := $(BUILD)/lua/cld/help/text.lua
HELP_SOURCES := $(shell find lua/cld -name '*.lua' -o -name '*.md') $(wildcard bindings/*.c)

all: $(BUILD)/cldlua $(BUILD)/cld/core.so $(HELP_TEXT) cuda mpi

$(HELP_TEXT): $(BUILD)/cldlua $(HELP_SOURCES) $(wildcard recipes/*.lua)
	@mkdir -p $(@D)
	@echo "  HELP  $@"
	$(Q)$(BUILD)/cldlua -E lua/cld/help/write.lua text $@

# The same as HTML pages, and the man page, which takes its options from --help. HELP_TEXT, the folder DOCS and MAN_PAGE
# are installed.
DOCS     := $(BUILD)/docs
MAN_PAGE := $(BUILD)/cldlua.1
docs: $(DOCS)/index.html $(MAN_PAGE)

$(DOCS)/index.html: $(HELP_TEXT)
	@echo "  DOCS  $(DOCS)"
	$(Q)rm -rf $(DOCS) && $(BUILD)/cldlua -E lua/cld/help/write.lua docs $(DOCS)

$(MAN_PAGE): $(BUILD)/cldlua $(HELP_TEXT)
	@echo "  MAN   $@"
	$(Q)$(BUILD)/cldlua --help | $(BUILD)/cldlua -E lua/cld/help/write.lua man $@

$(BUILD)/cldlua: $(LIBOBJ) $(call OBJ,$(INTERP))
	@echo "  LINK  $@"
	$(Q)$(CC) $(SANITIZE) -Wl,-E -o $@ $^ $(LDFLAGS) $(LIBS) $(EDIT_LIBS)

$(BUILD)/cld/core.so: $(LIBOBJ)
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	$(Q)$(CC) $(SANITIZE) -shared -o $@ $^ $(LDFLAGS) $(LIBS)

$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(COMMON) $(CFLAGS) $(EDIT_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/obj/%.o: %.cpp $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  CXX   $<"
	$(Q)$(CXX) $(patsubst -std=%,-std=gnu++17,$(COMMON)) $(CFLAGS) -MMD -MP -c -o $@ $<

# proto/NAME.pb-c.h from each runtime/io/NAME.proto, for the files that write or read such messages.
$(BUILD)/proto/%.pb-c.c $(BUILD)/proto/%.pb-c.h &: runtime/io/%.proto
	@mkdir -p $(@D)
	@echo "  PROTO $<"
	$(Q)protoc-c -Iruntime/io --c_out=$(BUILD)/proto $<

.PRECIOUS: $(BUILD)/proto/%.pb-c.c

$(BUILD)/obj/proto/%.o: $(BUILD)/proto/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(COMMON) $(CFLAGS) $(PROTOBUF_CFLAGS) -MMD -MP -c -o $@ $<

# oneDNN's exceptions pass through this file.
$(call OBJ,kernels/cpu/conv_onednn.c): COMMON += -fexceptions

# Rebuilds if the flags change; then prints what was found, and stops if something required is missing.
# found(name, header, flags, remedy, what its absence means)
found = if echo '\#include <$(2)>' | $(CC) $(3) -E -x c - >/dev/null 2>&1; then echo "  ✓ $(1)"; \
        else echo "  ✗ $(1): make setup, or install $(4)$(5)"; $(if $(5),,missing=1;) fi
FLAGS := $(CC) $(CXX) $(COMMON) $(CFLAGS) $(EDIT_CFLAGS) $(CURL_CFLAGS) $(ARCHIVE_CFLAGS) $(PROTOBUF_CFLAGS) $(LDFLAGS) $(LIBS)
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(FLAGS)' | cmp -s - $@ || { \
	    $(call found,oneDNN,dnnl.h,,libdnnl-dev); \
	    $(call found,Lua 5.4,lua.h,$(LUA_CFLAGS),liblua5.4-dev); \
	    $(call found,jansson,jansson.h,,libjansson-dev); \
	    $(call found,libjpeg-turbo,stdio.h>\n\#include <jpeglib.h,,libjpeg62-turbo-dev); \
	    $(call found,libpng,png.h,,libpng-dev); \
	    $(call found,zlib,zlib.h,,zlib1g-dev); \
	    $(call found,libedit,histedit.h,$(EDIT_CFLAGS),libedit-dev, (without it: no line editing)); \
	    $(call found,libcurl,curl/curl.h,$(or $(CURL_CFLAGS),--none),libcurl4-openssl-dev, (without it: no downloads)); \
	    $(call found,libarchive,archive.h,$(or $(ARCHIVE_CFLAGS),--none),libarchive-dev, (without it: no archives except .tar and no .npz; of PyTorch files only legacy ones)); \
	    $(call found,protobuf-c,protobuf-c/protobuf-c.h,$(or $(PROTOBUF_CFLAGS),--none),libprotobuf-c-dev protobuf-c-compiler, (without it: no ONNX and no TensorBoard files)); \
	    [ -z "$$missing" ] && echo '$(FLAGS)' > $@; }

# What cld.versions() and cld.built_with() say. Rewritten only if it changes, so that a new commit compiles one file.
VERSION := 0.1.0
COMMIT  := $(shell git describe --always --dirty 2>/dev/null || echo unknown)
module_version = $(if $(1),$$(pkg-config --modversion $(2)))
$(BUILD)/version.h: FORCE
	@mkdir -p $(@D)
	@printf '#define CLD_%s "%s"\n' VERSION '$(VERSION)' COMMIT '$(COMMIT)' \
	    LIBEDIT "$(call module_version,$(HAVE_EDIT),libedit)" LIBCURL "$(call module_version,$(CURL_CFLAGS),libcurl)" \
	    LIBARCHIVE "$(call module_version,$(ARCHIVE_CFLAGS),libarchive)" \
	    PROTOBUF_C "$(call module_version,$(HAVE_PROTOBUF),libprotobuf-c)" \
	    MPI "$(if $(MPICC),$(MPI_VERSION))" \
	    CUDA "$(if $(HAVE_CUDA),$(CUDA_VERSION)$(CUDNN_VERSION) for $(CUDA_ARCH:%=sm_%))" > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@
$(BUILD)/obj/bindings/system.o: $(BUILD)/version.h
$(BUILD)/obj/bindings/system.o: COMMON += -I$(BUILD)

$(call OBJ,runtime/io/download.c): COMMON += $(CURL_CFLAGS)
$(call OBJ,runtime/io/unpack.c runtime/io/zip.c runtime/data/devkit_archive.c): COMMON += $(ARCHIVE_CFLAGS)
$(call OBJ,runtime/io/event.c): COMMON += $(PROTOBUF_CFLAGS)
$(call OBJ,runtime/io/event.c): $(if $(HAVE_PROTOBUF),$(BUILD)/proto/event.pb-c.h)
$(call OBJ,runtime/io/onnx_write.c): COMMON += $(PROTOBUF_CFLAGS)
$(call OBJ,runtime/io/onnx_write.c): $(if $(HAVE_PROTOBUF),$(BUILD)/proto/onnx.pb-c.h)

-include $(patsubst %.o,%.d,$(LIBOBJ) $(call OBJ,$(INTERP)))

# ---- CUDA ---------------------------------------------------------------------------

# build/libcld_cuda.so, if nvcc, cuBLAS and cuDNN are installed; not under the sanitizers, which cannot see into a GPU.
NVCC_PATH := $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard /usr/local/cuda/bin/nvcc))
NVCC      := $(if $(shell command -v ccache 2>/dev/null),ccache )$(NVCC_PATH)
CUDA      := $(patsubst %/bin/nvcc,%,$(NVCC_PATH))
CUDA_INC  := -I$(CUDA)/include
has_header = $(shell echo '\#include <$(1)>' | $(CC) $(CUDA_INC) -E -x c - >/dev/null 2>&1 && echo 1)
CUDA_MISSING := $(if $(NVCC_PATH),$(if $(call has_header,cublasLt.h),,cuBLAS) $(if $(call has_header,cudnn.h),,cuDNN),nvcc)
CUDA_MISSING := $(strip $(CUDA_MISSING))
HAVE_CUDA := $(if $(CUDA_MISSING)$(SANITIZE),,$(if $(strip $(CUDA_ARCH)),1))
# Shell text, expanded in recipes.
CUDA_VERSION  = $$($(NVCC_PATH) --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')
CUDNN_VERSION = $$(printf '\#include <cudnn_version.h>\ncudnn CUDNN_MAJOR CUDNN_MINOR' | $(CC) $(CUDA_INC) -E -P -x c - | \
                  sed -n 's/^cudnn \([0-9]*\) \([0-9]*\)$$/, cuDNN \1.\2/p')
CUDA_PLUGIN := $(BUILD)/libcld_cuda.so
CUDA_HOST   := $(BUILD)/libcld_cuda_host.so

CUDA_C    := $(wildcard kernels/cuda/*.c)
CUDA_CU   := $(wildcard kernels/cuda/*.cu)
CUDA_OBJ  := $(patsubst kernels/cuda/%,$(BUILD)/cuda/%.o,$(CUDA_C) $(CUDA_CU)) $(call OBJ,runtime/core/libraries.c)
CUDA_CC   := $(CC) -std=gnu11 $(OPT) $(WARN) $(CFLAGS) -fPIC -fvisibility=hidden -I. $(CUDA_INC)
# Code for each architecture, and for later GPUs the last one as PTX, which the driver compiles.
CUDA_LAST := $(lastword $(CUDA_ARCH))
# Compressed as far as possible, if nvcc can: this gives a quarter of the size.
CUDA_SMALL := $(if $(HAVE_CUDA),$(shell $(NVCC_PATH) --help | grep -q -- --compress-mode && echo -compress-mode=size))
CUDA_NVCC := $(NVCC) -O3 -std=c++17 -I. -Xcompiler "-fPIC -fvisibility=hidden" -Xptxas -v $(CUDA_SMALL) \
             $(if $(findstring -Werror,$(WARN)),-Werror all-warnings) \
             $(foreach a,$(CUDA_ARCH),-gencode arch=compute_$(a),code=sm_$(a)) \
             -gencode arch=compute_$(CUDA_LAST),code=compute_$(CUDA_LAST)
CUDA_LIBS := -L$(CUDA)/lib64 -L$(CUDA)/lib -lcudart_static -lcublasLt -lcudnn -lstdc++ -lrt -lpthread -ldl -lm
SHARED    := -shared -Wl,-Bsymbolic -Wl,--no-undefined -Wl,--exclude-libs,ALL

ifeq ($(HAVE_CUDA),1)
cuda: $(CUDA_PLUGIN)
CUDA_FLAGS := $(CUDA_CC) $(CUDA_NVCC) $(CUDA_LIBS)
else
cuda: $(if $(strip $(CUDA_ARCH)),$(BUILD)/cuda/flags)
CUDA_FLAGS := none
endif

$(BUILD)/cuda/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CUDA_FLAGS)' | cmp -s - $@ || { \
	    $(if $(SANITIZE),,$(if $(HAVE_CUDA), \
	      echo "  ✓ CUDA $(CUDA_VERSION) ($(CUDA_ARCH:%=sm_%) + PTX)", \
	      echo "  ✗ CUDA: no $(CUDA_MISSING) (without it: no GPU)");) \
	    echo '$(CUDA_FLAGS)' > $@; }

$(CUDA_PLUGIN): $(CUDA_OBJ)
	@echo "  LINK  $@"
	$(Q)$(CC) $(SHARED) -o $@ $^ $(LDFLAGS) $(CUDA_LIBS)

$(BUILD)/cuda/%.c.o: kernels/cuda/%.c $(BUILD)/cuda/flags
	@echo "  CC    $<"
	$(Q)$(CUDA_CC) -MMD -MP -c -o $@ $<

# ptxas's messages about the kernels go to their own file, all others to the terminal.
$(BUILD)/cuda/%.cu.o: kernels/cuda/%.cu $(BUILD)/cuda/flags
	@echo "  NVCC  $<"
	$(Q)$(CUDA_NVCC) $(CUDA_NVCC_$*) -MMD -MP -MF $(@:.o=.d) -c -o $@ $< 2>$(@:.o=.ptxas) || { cat $(@:.o=.ptxas); rm -f $@; exit 1; }
	@grep -v -e '^ptxas info' -e 'bytes stack frame' -e '^$$' $(@:.o=.ptxas) || true

CUDA_NVCC_view := -fmad=false # the same roundings as the host's views

# A line for each kernel and architecture: registers, bytes spilled, bytes of stack. Fails if one spills on sm_90.
$(BUILD)/cuda/report.txt: $(filter %.cu.o,$(CUDA_OBJ)) kernels/cuda/report.awk
	@cat $(patsubst %.o,%.ptxas,$(filter %.cu.o,$^)) /dev/null | awk -f kernels/cuda/report.awk | c++filt | sort > $@

cuda-report: $(if $(HAVE_CUDA),$(BUILD)/cuda/report.txt)
	$(if $(HAVE_CUDA),,$(error cuda-report: no $(CUDA_MISSING)))
	@cat $<
	@! grep -E '^sm_90 +[0-9]+ registers +[1-9][0-9]* spilled' $< >/dev/null || { echo "cuda-report: kernels spill"; exit 1; }

# The same kernels on the host, for the specs: kernels/cuda/host replaces what needs a GPU.
HOST_C   := $(filter-out $(addprefix kernels/cuda/,device.c staging.c blas.c dnn%.c nccl.c),$(CUDA_C))
HOST_CXX := $(CUDA_CU) $(wildcard kernels/cuda/host/*.cpp)
HOST_OBJ := $(patsubst kernels/cuda/%,$(BUILD)/cuda_host/%.o,$(HOST_C) $(HOST_CXX))
HOST_COMMON := $(if $(SANITIZE),-O1 -fno-omit-frame-pointer,-O2) -fopenmp $(WARN) -Wno-unknown-pragmas $(CFLAGS) -fPIC -fvisibility=hidden -ffp-contract=off -DCLD_ON_HOST -I. $(SANITIZE)
HOST_LIBS   := -lgomp -lrt -lpthread -lm
HOST_FLAGS  := $(CC) $(CXX) $(HOST_COMMON)

$(BUILD)/cuda_host/flags: FORCE
	@mkdir -p $(@D)/host
	@echo '$(HOST_FLAGS)' | cmp -s - $@ || echo '$(HOST_FLAGS)' > $@

$(CUDA_HOST): $(HOST_OBJ)
	@echo "  LINK  $@"
	$(Q)$(CXX) $(SANITIZE) -shared -Wl,-Bsymbolic $(if $(SANITIZE),,-Wl$(comma)--no-undefined) -o $@ $^ $(LDFLAGS) $(HOST_LIBS)

$(BUILD)/cuda_host/%.c.o: kernels/cuda/%.c $(BUILD)/cuda_host/flags
	@echo "  CC    $< (host)"
	$(Q)$(CC) -std=gnu11 $(HOST_COMMON) -MMD -MP -c -o $@ $<

$(BUILD)/cuda_host/%.o: kernels/cuda/% $(BUILD)/cuda_host/flags
	@echo "  CXX   $< (host)"
	$(Q)$(CXX) -x c++ -std=gnu++17 $(HOST_COMMON) -MMD -MP -c -o $@ $<

comma := ,
-include $(CUDA_OBJ:.o=.d) $(HOST_OBJ:.o=.d)

# ---- MPI ----------------------------------------------------------------------------

# build/libcld_mpi.so, for jobs of several processes, if mpicc is installed.
MPICC      := $(if $(filter none,$(MPI)),,$(shell command -v mpicc 2>/dev/null))
MPI_VERSION = $$($(MPICC) --showme:version 2>/dev/null | sed 's/^[^:]*: //; s/ (.*//' | grep . || echo of an unknown version)
MPI_PLUGIN := $(BUILD)/libcld_mpi.so
MPI_OBJ    := $(patsubst kernels/mpi/%.c,$(BUILD)/mpi/%.o,$(wildcard kernels/mpi/*.c))
MPI_CC     := $(MPICC) -std=gnu11 $(OPT) $(WARN) $(CFLAGS) -fPIC -fvisibility=hidden -I. $(SANITIZE)
mpi: $(if $(MPICC),$(MPI_PLUGIN),$(BUILD)/mpi/flags)

$(BUILD)/mpi/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(MPI_CC)' | cmp -s - $@ || { \
	    $(if $(MPICC),echo "  ✓ MPI",echo "  ✗ MPI: no mpicc (without it: no jobs of several processes)"); \
	    echo '$(MPI_CC)' > $@; }

$(MPI_PLUGIN): $(MPI_OBJ)
	@echo "  LINK  $@"
	$(Q)$(MPICC) $(SANITIZE) -shared -o $@ $^ $(LDFLAGS) -lpthread

$(BUILD)/mpi/%.o: kernels/mpi/%.c $(BUILD)/mpi/flags
	@echo "  CC    $<"
	$(Q)$(MPI_CC) -MMD -MP -c -o $@ $<

-include $(MPI_OBJ:.o=.d)

# ---- install, and packages -------------------------------------------------------

include bindings/package/install.mk

# ---- a first look ------------------------------------------------------------

# The real recipes on toy data, small enough for two cores: CIFAR-10's files, or JPEG files of mixed sizes.
SEED ?= 1
demo demo-images demo-moco: all
	$(Q)sh spec/demo.sh $@ '$(BUILD)' '$(SEED)'

# ---- checks ------------------------------------------------------------------

include spec/programs.mk spec/fuzz/fuzz.mk

# SPEC=spec/x_spec.lua runs one file. Several run JOBS at a time, the longest first. Ends with "N passed, N failed".
SPEC ?= spec
JOBS ?= $(shell nproc)
SPEC_FILES := $(foreach s,$(SPEC),$(if $(filter %.lua,$s),$s,$(wildcard $s/*_spec.lua)))
LONGEST    := spec/recipes_devices_spec.lua spec/recipes_spec.lua
RUN_SPECS   = $(BUILD)/cldlua /usr/bin/busted $(SPEC_FILES)
ifeq ($(filter 1,$(JOBS) $(words $(SPEC_FILES))),)
RUN_SPECS   = spec/support/parallel.sh $(JOBS) $(BUILD)/cldlua /usr/bin/busted \
                $(filter $(LONGEST),$(SPEC_FILES)) $(filter-out $(LONGEST),$(SPEC_FILES))
endif
test: all $(CUDA_HOST) $(TEST_PROGRAMS)
	$(Q)CLD_CUDA_PLUGIN=$(abspath $(CUDA_HOST)) $(RUN_SPECS)

# The same specs in their own build, one file on each processor. oneDNN, libgomp and Lua's string table leave reachable
# memory behind; only lost memory is reported.
asan:
	$(Q)ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	LSAN_OPTIONS=suppressions=spec/support/lsan.supp:print_suppressions=0 OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive \
	$(MAKE) --no-print-directory test BUILD=build-asan OPT="-O1 -fno-omit-frame-pointer" SANITIZE="-fsanitize=address,undefined"

C_FILES   := $(filter-out build%,$(wildcard */*.c */*.h */*/*.c */*/*.h */*/*/*.h))
CXX_FILES := $(filter-out build%,$(wildcard kernels/cpu/*.cpp kernels/cuda/*.cu kernels/cuda/*.cuh kernels/cuda/*/*.cpp spec/*/*.cu spec/*/*.cpp))
lint:
	luacheck -q .
	clang-format --dry-run -Werror $(C_FILES) $(CXX_FILES)
	cppcheck --quiet --std=c11 --enable=warning --error-exitcode=1 --inline-suppr -U__cplusplus \
	  --suppressions-list=spec/support/cppcheck.supp -j $$(nproc) -I. $(filter %.c,$(C_FILES))

# The demos' results for three seeds, with the margins that they must have, and each CIFAR recipe once. Takes an hour.
demo-check: all
	$(Q)$(BUILD)/cldlua spec/demo_check.lua $(MAKE) --no-print-directory demo BUILD=$(BUILD)
	$(Q)$(BUILD)/cldlua spec/demo_check.lua $(MAKE) --no-print-directory demo-moco BUILD=$(BUILD)
	$(Q)$(BUILD)/cldlua spec/compare_methods.lua --build $(BUILD) --only cifar --seeds 1 --no-plain --linear

# Every method with and without CLD on generated images, with equal time; an hour on two cores. For a single method:
# COMPARE="--only BYOL --seeds 1".
compare-methods: all
	$(Q)$(BUILD)/cldlua spec/compare_methods.lua --build $(BUILD) $(COMPARE)

# How well recipes/select.lua's rankings of runs agree with kNN, over 15 small runs. SELECT="--seed 2 --epochs 10"
select-check: all
	$(Q)$(BUILD)/cldlua spec/select_check.lua --build $(BUILD) $(SELECT)

# Reports in headless Chromium: no error, every picture loaded, a value at the pointer. REPORT_CHECK="a.html b.html"
report-check: all
	$(Q)$(BUILD)/cldlua spec/report_check.lua --build $(BUILD) $(REPORT_CHECK)

# The README's pictures, from the run that `make demo` leaves.
pictures: demo
	$(Q)$(BUILD)/cldlua spec/pictures.lua --build $(BUILD)

# Has PyTorch, torchvision, onnxruntime and safetensors read our files, in $PEER_PYTHON or python3.
test-interop: all
	$(Q)$(BUILD)/cldlua spec/interop/check.lua

# Has TensorBoard's own readers read runs that were killed and resumed, if PYTHON has TensorBoard.
PYTHON ?= python3
test-interop-tensorboard: all
	$(Q)$(BUILD)/cldlua spec/interop/tensorboard.lua $(PYTHON)

# Jobs of several ranks: every recipe on 1 to 4 ranks, 200 kills, two machines made of namespaces, a real Slurm. Takes
# forty minutes and ends with "N passed, N failed". RANKS_CHECK="--only kills --count 20" runs a part of it.
ranks-check: all
	$(Q)$(BUILD)/cldlua spec/ranks/check.lua --build $(BUILD) $(RANKS_CHECK)

# ---- measurements --------------------------------------------------------------

# Ratios to PyTorch, if python3 (or PEER_PYTHON) has it. BENCH="--rounds 1 --steps 1 --batch 32" for a quick look.
bench: all $(BUILD)/bench/conv_floor.so $(BUILD)/bench/decode_floor.so
	$(Q)$(BUILD)/cldlua spec/bench/bench.lua --build $(BUILD) $(BENCH)

# t-SNE of 10,000 points beside scikit-learn's, if $PEER_PYTHON or python3 has it.
bench-tsne: all
	$(Q)$(BUILD)/cldlua spec/bench/tsne.lua --build $(BUILD) $(BENCH_TSNE)

$(BUILD)/bench/%.so: spec/bench/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  CC    $@"
	$(Q)$(CC) $(COMMON) $(CFLAGS) -shared -o $@ $< $(LDFLAGS) $(LIBS)

# One command on a folder of images, beside LightlyTrain's if PEER_PYTHON has it.
# BENCH_PRETRAIN="--images 200 --epochs 2" for a quick look.
.PHONY: bench-pretrain
bench-pretrain: all
	$(Q)$(BUILD)/cldlua spec/bench/pretrain.lua --build $(BUILD) $(BENCH_PRETRAIN)

# What a captured training step consists of, on the emulated device: nodes and bytes per kernel. Takes a minute or two.
gpu-count: all $(CUDA_HOST)
	$(Q)$(BUILD)/cldlua spec/gpu/count.lua --build $(BUILD) $(GPU_COUNT)

# ---- on a machine with a GPU ----------------------------------------------------

# The CUDA backend against the CPU. Ends with "N passed, N failed".
gpu-check: all $(CUDA_PROGRAMS) $(if $(HAVE_CUDA),$(BUILD)/spec/cuda_libraries)
	$(Q)$(BUILD)/cldlua spec/gpu/check.lua --build $(BUILD) $(GPU_CHECK)

# Two ranks beside two threads, and a prediction for many GPUs. BENCH_RANKS="--rounds 1" for a quick look.
bench-ranks: all
	$(Q)$(BUILD)/cldlua spec/bench/ranks.lua --build $(BUILD) $(BENCH_RANKS)

# The GPU table. GPU_BENCH="--rounds 1 --quick" for a first look.
gpu-bench: all
	$(Q)$(BUILD)/cldlua spec/gpu/bench.lua --build $(BUILD) $(GPU_BENCH)

# A folder that runs on another Linux with an NVIDIA driver: build/bundle, packed as build/cldlua-bundle.tar.gz. It uses
# the old form of the run-time path (RPATH), because that also finds the libraries that the libraries need.
bundle: all $(BUILD)/bundle/build/cldlua $(CUDA_PROGRAMS) $(if $(HAVE_CUDA),$(BUILD)/spec/cuda_libraries)
	$(Q)sh spec/gpu/bundle.sh $(BUILD)

$(BUILD)/bundle/build/cldlua: $(LIBOBJ) $(call OBJ,$(INTERP))
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	$(Q)$(CC) $(SANITIZE) -Wl,-E -Wl,--disable-new-dtags,-rpath,'$$ORIGIN/lib' -o $@ $^ $(LDFLAGS) $(LIBS) $(EDIT_LIBS)

clean:
	rm -rf $(BUILD) build-asan

.PHONY: all docs cuda mpi cuda-report setup demo demo-images demo-moco test test-interop test-interop-tensorboard asan lint bench bench-ranks bench-pretrain bench-tsne demo-check select-check report-check pictures ranks-check gpu-check gpu-bench gpu-count bundle clean \
        FORCE

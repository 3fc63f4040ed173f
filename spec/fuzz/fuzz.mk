# make fuzz: runs the image decoders and the readers of PyTorch's files, NumPy's archives and TensorBoard's events under
# libFuzzer, AddressSanitizer and UBSan, each for FUZZ_SECONDS. Needs clang. The findings, and the inputs that it has
# learned, stay in build/fuzz.
FUZZ_SECONDS ?= 600
FUZZ_CORE    := $(addprefix runtime/core/,error.c text.c scratch.c strings.c)
FUZZ_DECODE  := spec/fuzz/decode_fuzz.c $(wildcard runtime/images/decode*.c) $(FUZZ_CORE)
FUZZ_TORCH   := spec/fuzz/torch_fuzz.c $(wildcard runtime/io/torch_*.c runtime/io/pickle*.c) \
                $(addprefix runtime/io/,recognise.c numbers.c float8.c zip.c file.c folder.c library.c) $(FUZZ_CORE)
FUZZ_EVENT   := spec/fuzz/event_fuzz.c $(addprefix runtime/io/,event.c crc32c.c file.c folder.c) $(FUZZ_CORE)
FUZZ_NUMPY   := spec/fuzz/numpy_fuzz.c \
                $(addprefix runtime/io/,npz.c npy.c numbers.c float8.c zip.c file.c folder.c library.c) \
                $(FUZZ_CORE)

$(BUILD)/fuzz/decode: $(FUZZ_DECODE) $(wildcard runtime/images/decode*.h)
$(BUILD)/fuzz/decode: FUZZ_LIBS := -ljpeg -lpng16 -lm
$(BUILD)/fuzz/torch: $(FUZZ_TORCH) $(wildcard runtime/io/*.h spec/fuzz/*.h)
$(BUILD)/fuzz/torch: FUZZ_LIBS := $(ARCHIVE_CFLAGS) -ldl -lpthread -lm
$(BUILD)/fuzz/event: $(FUZZ_EVENT) $(BUILD)/proto/event.pb-c.c $(wildcard runtime/io/*.h)
$(BUILD)/fuzz/event: FUZZ_LIBS := $(PROTOBUF_CFLAGS) $(shell pkg-config --libs libprotobuf-c 2>/dev/null) -lm
$(BUILD)/fuzz/numpy: $(FUZZ_NUMPY) $(wildcard runtime/io/*.h spec/fuzz/*.h)
$(BUILD)/fuzz/numpy: FUZZ_LIBS := $(ARCHIVE_CFLAGS) -ldl -lpthread -lm
$(BUILD)/fuzz/decode $(BUILD)/fuzz/torch $(BUILD)/fuzz/numpy $(BUILD)/fuzz/event:
	@command -v clang >/dev/null || { echo "fuzz: there is no clang here (Debian: clang)"; exit 1; }
	@mkdir -p $(@D)
	@echo "  CC    $@"
	$(Q)clang -std=gnu11 -g -O1 -I. -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
	  -DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION -o $@ $(filter %.c,$^) $(FUZZ_LIBS)

# The kinds of files, and the program that fuzzes each.
FUZZ_KINDS := jpeg png zip legacy npz $(if $(HAVE_PROTOBUF),events)
FUZZ_jpeg  := decode
FUZZ_png   := decode
FUZZ_zip   := torch
FUZZ_legacy := torch
FUZZ_npz   := numpy
FUZZ_events := event
fuzz: $(addprefix fuzz-,$(FUZZ_KINDS))
fuzz-jpeg fuzz-png: $(BUILD)/fuzz/decode
fuzz-zip fuzz-legacy: $(BUILD)/fuzz/torch
fuzz-npz: $(BUILD)/fuzz/numpy
fuzz-events: $(BUILD)/fuzz/event
$(addprefix fuzz-,$(FUZZ_KINDS)): fuzz-%: $(BUILD)/cldlua
	@mkdir -p $(BUILD)/fuzz/$* $(BUILD)/fuzz/seeds-$*
	$(Q)$(BUILD)/cldlua spec/fuzz/seeds.lua $* $(BUILD)/fuzz/seeds-$*
	$(Q)$(BUILD)/fuzz/$(FUZZ_$*) -max_total_time=$(FUZZ_SECONDS) -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
	  -artifact_prefix=$(BUILD)/fuzz/$*- $(BUILD)/fuzz/$* $(BUILD)/fuzz/seeds-$*

.PHONY: fuzz $(addprefix fuzz-,$(FUZZ_KINDS))

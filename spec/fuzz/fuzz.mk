# make fuzz: the decoders of image files under libFuzzer, AddressSanitizer and UBSan, each for FUZZ_SECONDS; needs clang. What
# it finds stays in build/fuzz, and so does what it has learnt.
FUZZ_SECONDS ?= 600
FUZZ_CODE    := spec/fuzz/decode_fuzz.c $(wildcard runtime/images/decode*.c) runtime/core/error.c runtime/core/text.c runtime/core/scratch.c

$(BUILD)/fuzz/decode: $(FUZZ_CODE) $(wildcard runtime/images/decode*.h)
	@command -v clang >/dev/null || { echo "fuzz: there is no clang here (Debian: clang)"; exit 1; }
	@mkdir -p $(@D)
	@echo "  CC    $@"
	$(Q)clang -std=gnu11 -g -O1 -I. -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
	  -DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION -o $@ $(FUZZ_CODE) -ljpeg -lpng16 -lm

fuzz: $(addprefix fuzz-,jpeg png)
fuzz-jpeg fuzz-png: fuzz-%: $(BUILD)/fuzz/decode $(BUILD)/cldlua
	@mkdir -p $(BUILD)/fuzz/$* $(BUILD)/fuzz/seeds-$*
	$(Q)$(BUILD)/cldlua spec/fuzz/seeds.lua $* $(BUILD)/fuzz/seeds-$*
	$(Q)$(BUILD)/fuzz/decode -max_total_time=$(FUZZ_SECONDS) -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
	  -artifact_prefix=$(BUILD)/fuzz/$*- $(BUILD)/fuzz/$* $(BUILD)/fuzz/seeds-$*

.PHONY: fuzz fuzz-jpeg fuzz-png

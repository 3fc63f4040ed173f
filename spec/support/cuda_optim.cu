/* The optimizers of kernels/cuda when values on the device control them: the check for finite gradients, the dynamic
 * loss scale, steps with scaled gradients, skipped steps, 16-bit gradients and copies. Prints what failed; the exit
 * code is 1 if anything did. spec/cuda_optim_spec.lua runs it on the host; it also runs on a GPU (make gpu-check). */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <vector>

#include "spec/support/plugin_host.h"

static const cld_memory_ops *memory;
static const cld_optim_ops *optim;

/* ---- checks ---- */

static int checks, failures;

static void check_at(bool holds, int line, const char *what, const char *more) {
    checks++;
    if (holds) return;
    failures++;
    printf("line %d: %s%s\n", line, what, more);
}
#define CHECK(condition) check_at(condition, __LINE__, #condition, "")
#define WORKS(call)      check_at((call) == CLD_OK, __LINE__, #call ": ", message)

/* ---- arrays on the device ---- */

struct device_array : cld_array {
    size_t bytes, room;
    char *start;
    /* `shift` bytes after a 64-byte aligned address */
    device_array(cld_dtype type, const void *values, int64_t n, size_t shift = 0) : cld_array{} {
        void *memory_block = NULL;
        dtype = type, ndim = 1, shape[0] = n, strides[0] = 1;
        bytes = (size_t)n * cld_dtype_size(type), room = bytes + shift;
        WORKS(memory->allocate(&memory_block, room));
        start = (char *)memory_block;
        data = start + shift;
        if (values) WORKS(memory->from_host(data, values, bytes));
    }
    device_array(const device_array &) = delete;
    ~device_array() { memory->release(start, room); }
    template <typename T> std::vector<T> values() const {
        std::vector<T> out(bytes / sizeof(T));
        WORKS(memory->to_host(out.data(), data, bytes));
        return out;
    }
    template <typename T> T value() const { return values<T>()[0]; }
};

/* ---- all_finite ---- */

/* bits: those of 1, NaN, infinity, -infinity and the largest number, in this dtype. */
template <typename T> static void check_finite(cld_dtype dtype, const T (&bits)[5]) {
    const uint8_t one = 1;
    const int64_t sizes[] = {1, 7, 4096, 9001};
    for (int64_t n : sizes)
        for (size_t shift = 0; shift <= sizeof(T); shift += sizeof(T))
            for (int kind = 1; kind < 5; kind++)
                for (int64_t at : {(int64_t)0, n / 2, n - 1}) {
                    std::vector<T> values((size_t)n, bits[0]);
                    const float other = 3;
                    values[(size_t)at] = bits[kind];
                    device_array flag(CLD_U8, &one, 1), x(dtype, values.data(), n, shift),
                        y(CLD_F32, &other, 1);
                    const cld_array lists[] = {y, x, y};
                    WORKS(optim->all_finite(&flag, 3, lists));
                    CHECK(flag.value<uint8_t>() == (kind == 4));
                }
}

static void finite() {
    const float floats[] = {1, NAN, INFINITY, -INFINITY, 3.4028234e38f};
    const double doubles[] = {1, NAN, INFINITY, -INFINITY, 1.7976931348623157e308};
    const uint16_t bf16s[] = {0x3F80, 0x7FC1, 0x7F80, 0xFF80, 0x7F7F},
                   f16s[] = {0x3C00, 0x7E01, 0x7C00, 0xFC00, 0x7BFF};
    check_finite(CLD_F32, floats);
    check_finite(CLD_F64, doubles);
    check_finite(CLD_BF16, bf16s);
    check_finite(CLD_F16, f16s);
    const uint8_t zero = 0;
    device_array flag(CLD_U8, &zero, 1), x(CLD_F32, floats, 1);
    WORKS(optim->all_finite(&flag, 1, &x));
    CHECK(flag.value<uint8_t>() == 0); /* it stays as it was */
}

/* ---- update_scale ---- */

static void scale() {
    const float start = 1024;
    const int32_t none = 0;
    const uint8_t made[] = {1, 1, 1, 0, 1, 0, 1, 1, 1, 1};
    const float expected[] = {1024, 1024, 2048, 1024, 1024, 512, 512, 512, 1024, 1024};
    const int32_t good[] = {1, 2, 0, 0, 1, 0, 1, 2, 0, 1};
    const cld_scale_params p = {2, 0.5, 3};
    device_array s(CLD_F32, &start, 1), g(CLD_I32, &none, 1);
    for (int i = 0; i < 10; i++) {
        device_array condition(CLD_U8, &made[i], 1);
        WORKS(optim->update_scale(&s, &g, &condition, &p));
        CHECK(s.value<float>() == expected[i] && g.value<int32_t>() == good[i]);
    }
    const float largest = 0x1p127f;
    const cld_scale_params often = {2, 0.5, 1};
    device_array still(CLD_F32, &largest, 1);
    WORKS(optim->update_scale(&still, &g, NULL, &often));
    CHECK(still.value<float>() == largest && g.value<int32_t>() == 0); /* it does not grow to infinity */
}

/* ---- a step controlled by values on the device ---- */

static void step() {
    std::vector<float> w(4100, 2), gradient(4100, 24);
    const double rate = 0.25, half = 0.5;
    const float eight = 8;
    for (uint8_t made : {0, 1}) {
        device_array params(CLD_F32, w.data(), 4100, 4), grads(CLD_F32, gradient.data(), 4100);
        device_array lr(CLD_F64, &rate, 1), condition(CLD_U8, &made, 1), factor(CLD_F32, &eight, 1);
        cld_rule_settings settings[2] = {};
        settings[1].lr = 100, settings[1].lr_factor = 2, settings[1].weight_decay = 0.5;
        cld_step_tensor tensor = {};
        tensor.param = params.data, tensor.grad = grads.data, tensor.n = 4100;
        tensor.dtype = tensor.grad_dtype = CLD_F32, tensor.settings = 1;
        device_array clip(CLD_F64, &half, 1);
        const cld_step_control control = {&lr, &condition, &factor, &clip};
        WORKS(optim->step(CLD_SGD, 1, &tensor, settings, &control));
        float wanted = made ? 2 - 2 * 0.25f * (0.5f * 24 / 8.0f + 0.5f * 2) : 2;
        bool all = true;
        for (float value : params.values<float>()) all = all && value == wanted;
        CHECK(all);
        WORKS(optim->ema(1, &params, &grads, 7, &clip, &condition)); /* the one on the device counts */
        CHECK(params.values<float>()[4099] == (made ? 0.5f * wanted + 12 : wanted));
    }
}

/* ---- a step with 16-bit gradients and copies ---- */

/* for a small integer divided by 64: exact in both types */
static uint16_t half_bits(cld_dtype dtype, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (dtype == CLD_BF16) return (uint16_t)(bits >> 16);
    if (value == 0) return 0;
    return (uint16_t)((bits >> 16 & 0x8000) | ((bits >> 23 & 255) - 127 + 15) << 10 | (bits >> 13 & 1023));
}

/* The weight, its state and the norm of its gradient after a step, and its copy. */
struct outcome {
    std::vector<float> weight, slots[2];
    std::vector<uint16_t> copy;
    float norm;
};

static outcome step_of(cld_rule rule, const int64_t (&shape)[3], bool half_grad, cld_dtype half, size_t shift,
                       uint8_t made) {
    int64_t n = shape[0] * shape[1] * shape[2];
    std::vector<float> w((size_t)n), g((size_t)n), zero((size_t)n, 0.125f);
    std::vector<uint16_t> narrow((size_t)n), none((size_t)n, 7);
    for (int64_t o = 0, e = 0; o < shape[0]; o++)
        for (int64_t c = 0; c < shape[1]; c++)
            for (int64_t k = 0; k < shape[2]; k++, e++) {
                w[(size_t)e] = (float)(e % 29 - 14) / 16;
                g[(size_t)e] = (float)((e * 7 + c) % 61 - 30) / 64;
                narrow[(size_t)((o * shape[2] + k) * shape[1] + c)] = half_bits(half, g[(size_t)e]);
            }
    device_array params(CLD_F32, w.data(), n, shift), wide(CLD_F32, g.data(), n),
        grads(half, narrow.data(), n), first(CLD_F32, zero.data(), n), second(CLD_F32, zero.data(), n),
        copy(half, none.data(), n), condition(CLD_U8, &made, 1), norm(CLD_F32, w.data(), 1),
        factor(CLD_F64, NULL, 1);
    const int64_t before = 3;
    device_array steps(CLD_I64, &before, 1);
    cld_rule_settings settings = {};
    settings.lr = settings.lr_factor = 0.5, settings.weight_decay = 0.25, settings.momentum = 0.5;
    settings.adapt = true, settings.eta = 0.5, settings.beta1 = settings.beta2 = 0.5, settings.eps = 0.125;
    cld_step_tensor t = {};
    t.param = params.data, t.grad = half_grad ? grads.data : wide.data, t.slots[0] = first.data;
    if (rule == CLD_ADAM) t.slots[1] = second.data, t.steps = (int64_t *)steps.data;
    t.copy = half_grad ? copy.data : NULL;
    t.n = n, t.channels = shape[1], t.inner = shape[2], t.dtype = CLD_F32;
    t.grad_dtype = half_grad ? half : CLD_F32, t.copy_dtype = half;
    const cld_step_control control = {NULL, &condition, NULL, NULL};
    WORKS(optim->grad_norm(&norm, &factor, 1, half_grad ? &grads : &wide, INFINITY, &control));
    WORKS(optim->step(rule, 1, &t, &settings, &control));
    return {params.values<float>(),
            {first.values<float>(), second.values<float>()},
            copy.values<uint16_t>(),
            norm.value<float>()};
}

static bool same(const std::vector<float> &a, const std::vector<float> &b) {
    return memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/* Rounds to 16 bits, to nearest with ties to even, with the device's own copy. */
static std::vector<uint16_t> rounded(const std::vector<float> &x, cld_dtype half, const cld_math_ops *math) {
    device_array from(CLD_F32, x.data(), (int64_t)x.size()), to(half, NULL, (int64_t)x.size());
    WORKS(math->copy(&to, &from));
    return to.values<uint16_t>();
}

static void half_step(cld_rule rule, const int64_t (&shape)[3], cld_dtype half, size_t shift,
                      const cld_math_ops *math) {
    outcome wide = step_of(rule, shape, false, half, shift, 1),
            narrow = step_of(rule, shape, true, half, shift, 1),
            skipped = step_of(rule, shape, true, half, shift, 0);
    if (rule == CLD_LARS) { /* norms are summed in other blocks: the ratio may differ in its last bit */
        double worst = 0;
        for (size_t e = 0; e < wide.weight.size(); e++)
            worst = fmax(worst, fabs((double)wide.weight[e] - (double)narrow.weight[e]));
        CHECK(worst < 1e-6);
    } else {
        CHECK(same(wide.weight, narrow.weight));
        CHECK(same(wide.slots[0], narrow.slots[0]) && same(wide.slots[1], narrow.slots[1]));
    }
    CHECK(fabsf(wide.norm - narrow.norm) <= 1e-6f * wide.norm);
    std::vector<uint16_t> values = rounded(narrow.weight, half, math);
    bool all = true, none = true;
    for (int64_t o = 0, e = 0; o < shape[0]; o++)
        for (int64_t c = 0; c < shape[1]; c++)
            for (int64_t k = 0; k < shape[2]; k++, e++)
                all = all && narrow.copy[(size_t)((o * shape[2] + k) * shape[1] + c)] == values[(size_t)e];
    for (uint16_t bits : skipped.copy) none = none && bits == 7;
    CHECK(all);
    CHECK(none);
    CHECK(isnan(skipped.norm));
}

static void half_steps(const cld_math_ops *math) {
    /* (out, channels, inner): several rows in a block, parts of a row, a prime number of channels, an inner size of
     * 1 */
    const int64_t shapes[][3] = {{150, 3, 9}, {9, 64, 9},   {2, 512, 9},
                                 {2, 97, 49}, {5, 2, 1024}, {3, 3001, 1}};
    for (auto &shape : shapes)
        for (cld_dtype half : {CLD_BF16, CLD_F16})
            for (size_t shift : {(size_t)0, sizeof(float)})
                for (cld_rule rule : {CLD_SGD, CLD_LARS, CLD_ADAM}) half_step(rule, shape, half, shift, math);
}

int main() {
    const cld_backend *device = cld_plugin_entry(&plugin_host)->open(0);
    if (!device) return printf("%s\n", message), 1;
    memory = device->memory;
    optim = device->optim;
    finite();
    scale();
    step();
    half_steps(device->math);
    CHECK(memory->info().in_use == 0);
    printf("%d checks, %d failures\n", checks, failures);
    return failures > 0;
}

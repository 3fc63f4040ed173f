/* Index arithmetic of kernels/cuda for tensors larger than any spec's: division by multiplication (dims.cuh), and walks
 * cut in two (walk.h). Prints what failed; the exit code is 1 if anything did. spec/cuda_walk_spec.lua runs it on the
 * host; it also runs on a machine with a GPU, without using it. */
#include <stdio.h>
#include <string.h>
#include <vector>

#include "kernels/cuda/walk.cuh"

static int checks, failures;

static void check(bool holds, const char *what, long long a, long long b) {
    checks++;
    if (holds) return;
    if (failures++ < 20) printf("%s: %lld, %lld\n", what, a, b);
}

/* ---- division ---- */

static void division() {
    std::vector<int64_t> divisors, numbers;
    const int64_t most = ((int64_t)1 << 31) - 1;
    for (int64_t d = 1; d < 70; d++) divisors.push_back(d);
    for (int bit = 6; bit < 31; bit++)
        for (int64_t d = -2; d <= 2; d++) divisors.push_back(((int64_t)1 << bit) + d);
    for (int64_t d = 3; d < most; d = d * 7 + 2) divisors.push_back(d);
    divisors.push_back(most);
    for (int64_t d : divisors) {
        const cld_divisor r = cld_divisor_of(d);
        numbers = {0, 1, d - 1, d, d + 1, most - 1, most, most + 1, 3 * most, 2 * most * d + d - 1};
        for (int64_t k = 1; k < 40; k++) numbers.push_back(k * (most / 40) / d * d - 1);
        for (int64_t n : numbers)
            if (n >= 0) check(quotient(n, r) == n / d, "n, divisor", n, d);
    }
}

/* ---- walks ---- */

/* Counts every element of the walk once where it is written, and checks that it is read from the place that `read`
 * gives. */
static void visit(const cld_walk &w, std::vector<int> &written, const std::vector<int64_t> &read,
                  const char *out, const char *x) {
    for (int64_t i = 0; i < w.numel; i++) {
        int64_t rest = i, to = 0, from = 0;
        for (int d = w.ndim - 1; d >= 0; d--) {
            int64_t k = rest % w.shape[d];
            rest /= w.shape[d];
            to += k * w.strides[0][d] * (int64_t)w.size[0];
            from += k * w.strides[1][d] * (int64_t)w.size[1];
        }
        int64_t element = (w.data[0] + to - out) / (int64_t)w.size[0];
        written[(size_t)element]++;
        check((w.data[1] + from - x) / (int64_t)w.size[1] == read[(size_t)element], "reads, element",
              (w.data[1] + from - x) / (int64_t)w.size[1], element);
    }
}

/* Cuts until no piece has more than `most` elements. */
static void cut(const cld_walk &w, int64_t most, std::vector<int> &written, const std::vector<int64_t> &read,
                const char *out, const char *x) {
    if (w.numel <= most) return visit(w, written, read, out, x);
    cld_walk halves[2];
    cld_walk_halve(&w, halves);
    check(halves[0].numel > 0 && halves[1].numel > 0 && halves[0].numel + halves[1].numel == w.numel,
          "halves", halves[0].numel, halves[1].numel);
    for (int i = 0; i < 2; i++) cut(halves[i], most, written, read, out, x);
}

/* out is dense f32; x is bf16, with its dimensions in the given order, the first `broadcast` of them with stride 0. */
static void walks(std::vector<int64_t> shape, std::vector<int> order, int broadcast, int64_t most) {
    cld_array out = {}, x = {};
    out.dtype = CLD_F32, x.dtype = CLD_BF16;
    out.ndim = x.ndim = (int)shape.size();
    for (int d = 0; d < out.ndim; d++) out.shape[d] = x.shape[d] = shape[(size_t)d];
    int64_t inside = 1;
    for (int d = out.ndim - 1; d >= 0; inside *= shape[(size_t)d--]) out.strides[d] = inside;
    int64_t numel = inside;
    inside = 1;
    for (int i = out.ndim - 1; i >= broadcast; i--) {
        x.strides[order[(size_t)i]] = inside;
        inside *= shape[(size_t)order[(size_t)i]];
    }
    std::vector<char> out_data((size_t)numel * 4), x_data((size_t)numel * 2);
    out.data = out_data.data(), x.data = x_data.data();
    std::vector<int64_t> read((size_t)numel, 0);
    for (int64_t i = 0; i < numel; i++) {
        int64_t rest = i;
        for (int d = out.ndim - 1; d >= 0; d--) {
            read[(size_t)i] += rest % shape[(size_t)d] * x.strides[d];
            rest /= shape[(size_t)d];
        }
    }
    const cld_array *arrays[] = {&out, &x};
    std::vector<int> written((size_t)numel, 0);
    cut(cld_walk_of(arrays, 2), most, written, read, out_data.data(), x_data.data());
    for (int64_t i = 0; i < numel; i++)
        check(written[(size_t)i] == 1, "written, element", written[(size_t)i], i);
}

int main() {
    division();
    for (int64_t most : {1, 7, 64, 1000}) {
        walks({1003}, {0}, 0, most);
        walks({5, 301}, {0, 1}, 0, most);
        walks({37, 29}, {1, 0}, 0, most);
        walks({4, 3, 50}, {1, 0, 2}, 1, most);
        walks({2, 64, 3, 3}, {0, 2, 3, 1}, 0, most);
        walks({1, 1}, {0, 1}, 0, most);
    }
    printf("%d checks, %d failures\n", checks, failures);
    return failures > 0;
}

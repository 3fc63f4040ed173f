#include "runtime/tensor/print.h"

#include <math.h>
#include <stdarg.h>

#include "runtime/autograd/tape.h"
#include "runtime/core/text.h"

enum { CORNER = 3 }; /* values shown at each end of a long dimension */

typedef struct printer {
    char *text;
    size_t used, room;
    const cld_array *values; /* row-major, on the host; not bf16 or f16 */
    int width, decimals;
    bool exponent;
} printer;

__attribute__((format(printf, 2, 3))) static void put(printer *p, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int wrote = cld_vformat(p->text + p->used, p->room - p->used, format, args);
    va_end(args);
    if (wrote > 0) p->used += (size_t)wrote < p->room - p->used ? (size_t)wrote : p->room - p->used - 1;
}

/* printf shows the sign of NaN, which has no meaning. */
static double unsigned_nan(double v) { return isnan(v) ? NAN : v; }

static double real_at(const printer *p, int64_t i) {
    const void *data = p->values->data;
    return unsigned_nan(p->values->dtype == CLD_F64 ? ((const double *)data)[i] : ((const float *)data)[i]);
}

static int64_t integer_at(const printer *p, int64_t i) {
    const void *data = p->values->data;
    switch (p->values->dtype) {
    case CLD_I64: return ((const int64_t *)data)[i];
    case CLD_I32: return ((const int32_t *)data)[i];
    default: return ((const uint8_t *)data)[i];
    }
}

static bool is_integer(const cld_array *a) { return !cld_dtype_is_float(a->dtype); }

static void put_value(printer *p, int64_t i) {
    if (is_integer(p->values)) {
        put(p, "%*lld", p->width, (long long)integer_at(p, i));
        return;
    }
    double v = real_at(p, i);
    if (p->exponent && isfinite(v))
        put(p, "%*.*e", p->width, p->decimals, v);
    else
        put(p, "%*.*f", p->width, p->decimals, v);
}

/* The positions of a dimension to show: all, or both ends; returns the next one after i. */
static int64_t next_shown(int64_t i, int64_t extent) {
    return extent > 2 * CORNER + 1 && i + 1 == CORNER ? extent - CORNER : i + 1;
}

/* ---- one format for all values shown ------------------------------------------------------------------- */

typedef struct range {
    double largest, smallest; /* of the absolute values; smallest: except 0 */
    bool negative;
    int digits; /* characters, of integers */
} range;

static void measure(const printer *p, int64_t row, int64_t columns, range *r) {
    for (int64_t j = 0; j < columns; j = next_shown(j, columns)) {
        if (is_integer(p->values)) {
            int characters = cld_format(NULL, 0, "%lld", (long long)integer_at(p, row + j));
            if (characters > r->digits) r->digits = characters;
            continue;
        }
        double value = real_at(p, row + j), v = fabs(value);
        r->negative = r->negative || signbit(value);
        if (!isfinite(v)) continue;
        if (v > r->largest) r->largest = v;
        if (v > 0 && v < r->smallest) r->smallest = v;
    }
}

/* Four decimals, like PyTorch; powers of ten if the range is too wide for them. */
static void choose_format(printer *p, const range *r) {
    p->width = r->digits;
    if (is_integer(p->values)) return;
    p->exponent = r->largest > 0 && (r->largest >= 1e5 || r->smallest < 1e-4);
    p->decimals = 4;
    int digits = r->largest >= 1 ? (int)log10(r->largest) + 1 : 1;
    int body = p->exponent ? 10 : digits + 1 + p->decimals;
    p->width = (body < 3 ? 3 : body) + r->negative; /* 3: nan and inf */
}

static void put_row(printer *p, int64_t row, int64_t columns) {
    put(p, "\n");
    for (int64_t j = 0; j < columns;) {
        int64_t next = next_shown(j, columns);
        put(p, "  ");
        put_value(p, row + j);
        if (next > j + 1) put(p, "  ...");
        j = next;
    }
}

static void put_matrix(printer *p, int64_t at, int64_t rows, int64_t columns) {
    for (int64_t i = 0; i < rows;) {
        int64_t next = next_shown(i, rows);
        put_row(p, at + i * columns, columns);
        if (next > i + 1) put(p, "\n  ...");
        i = next;
    }
}

/* ---- the whole text ------------------------------------------------------------------------------------ */

static void put_head(printer *p, const cld_tensor *x) {
    put(p, "tensor %s on %s", cld_describe(&x->a), cld_device(x)->name);
    if (x->node)
        put(p, ", from %s", x->node->op->name);
    else if (x->requires_grad)
        put(p, ", requires_grad");
}

static void summarize_integers(printer *p, int64_t count) {
    int64_t low = integer_at(p, 0), high = low;
    for (int64_t i = 1; i < count; i++) {
        int64_t v = integer_at(p, i);
        low = v < low ? v : low;
        high = v > high ? v : high;
    }
    put(p, "\nmin %lld, max %lld", (long long)low, (long long)high);
}

static void put_summary(printer *p, int64_t count) {
    double low = INFINITY, high = -INFINITY, sum = 0;
    int64_t odd = 0;
    if (is_integer(p->values)) {
        summarize_integers(p, count);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        double v = real_at(p, i);
        if (!isfinite(v)) {
            odd++;
            continue;
        }
        low = v < low ? v : low;
        high = v > high ? v : high;
        sum += v;
    }
    put(p, "\n");
    if (odd < count) put(p, "min %.5g, max %.5g, mean %.5g", low, high, sum / (double)(count - odd));
    if (odd > 0) put(p, "%s%lld not finite", odd < count ? ", " : "", (long long)odd);
}

static void put_values(printer *p, const cld_array *a, int64_t count) {
    int64_t columns = a->shape[a->ndim - 1], rows = a->ndim > 1 ? a->shape[a->ndim - 2] : 1;
    int64_t matrices = count / (rows * columns);
    range r = {.smallest = INFINITY};
    for (int64_t m = 0; m<matrices; m += matrices> 1 ? matrices - 1 : 1)
        for (int64_t i = 0; i < rows; i = next_shown(i, rows))
            measure(p, (m * rows + i) * columns, columns, &r);
    choose_format(p, &r);
    for (int64_t m = 0; m<matrices; m += matrices> 1 ? matrices - 1 : 1) {
        if (a->ndim > 2) {
            int64_t rest = matrices, place = m;
            put(p, "\n[");
            for (int i = 0; i < a->ndim - 2; i++) {
                rest /= a->shape[i];
                put(p, "%lld, ", (long long)(place / rest) + 1);
                place %= rest;
            }
            put(p, ":, :]%s", m == 0 && matrices > 2 ? " and, at the other end," : "");
        }
        put_matrix(p, m * rows * columns, rows, columns);
    }
}

cld_status cld_tensor_print(cld_tensor *x, char *text, size_t room) {
    CLD_AUTO cld_tensor *near = cld_tensor_on_host(x);
    if (!near) return cld_error_code();
    CLD_AUTO cld_tensor *values =
        cld_dtype_is_half(x->a.dtype) ? cld_tensor_cast(near, CLD_F32) : cld_tensor_retain(near);
    if (!values) return cld_error_code();
    printer p = {.text = text, .room = room, .values = &values->a};
    int64_t count = cld_numel(&x->a);
    put_head(&p, x);
    if (count == 0) {
        put(&p, ", no elements");
    } else if (x->a.ndim == 0) {
        if (is_integer(&x->a))
            put(&p, ": %lld", (long long)integer_at(&p, 0));
        else
            put(&p, ": %.7g", real_at(&p, 0));
    } else {
        if (count > 1) put_summary(&p, count);
        put_values(&p, &x->a, count);
    }
    return CLD_OK;
}

/* Sums of products by the letters of an equation. Composed of other ops, which provide the gradients. A letter that
 * occurs twice in a tensor is a diagonal. A letter that is no longer needed is summed over. A pair of tensors is one
 * batched matrix product: the sum is over the letters that end there, and the batch over the letters that both have and
 * that are still needed. */
#include <ctype.h>
#include <string.h>

#include "runtime/ops/ops.h"

/* Letters are numbered: A-Z, a-z, then the dimensions of an ellipsis, with its last dimension last. */
#define LETTERS 52
#define LABELS  (LETTERS + CLD_MAX_DIMS)

typedef struct labels {
    int count;
    int of[CLD_MAX_DIMS];
} labels;

/* A tensor, and the letter of each of its dimensions. */
typedef struct operand {
    cld_tensor *x; /* owned */
    labels l;
} operand;

typedef struct equation {
    const char *text;
    int64_t extents[LABELS]; /* 0: not seen yet, or the extent is 0 */
    bool seen[LABELS];
    int times[LABELS]; /* number of subscripts that have it */
    int ellipsis;      /* its number of dimensions */
    labels out;
    bool wanted[LABELS]; /* in out */
} equation;

static void drop(operand *o) { cld_tensor_free(o->x); }

static int number_of(char c) { return c >= 'a' ? 26 + c - 'a' : c - 'A'; }
static char letter_of(int label) { return (char)(label < 26 ? 'A' + label : 'a' + label - 26); }

static int place_of(const labels *l, int label) {
    for (int i = 0; i < l->count; i++)
        if (l->of[i] == label) return i;
    return -1;
}

/* ---- the equation -------------------------------------------------------------------------------------- */

/* One subscript, up to a comma, an arrow or the end; advances *at. ellipsis: how many dimensions it has here. */
static cld_status read_subscript(const equation *e, const char **at, int ellipsis, labels *l, bool *dots) {
    *dots = false;
    l->count = 0;
    for (; **at && **at != ',' && **at != '-'; ++*at) {
        if (**at == ' ') continue;
        bool is_dots = strncmp(*at, "...", 3) == 0;
        if (!isalpha((unsigned char)**at) && (!is_dots || *dots))
            return cld_fail(
                CLD_INVALID,
                "einsum: '%s': character %d is '%c'; expected letters, one '...' in a subscript, commas "
                "and one '->'",
                e->text, (int)(*at - e->text) + 1, **at);
        int more = is_dots ? ellipsis : 1;
        if (l->count + more > CLD_MAX_DIMS)
            return cld_fail(CLD_INVALID, "einsum: '%s': a tensor has at most %d dimensions", e->text,
                            CLD_MAX_DIMS);
        if (!is_dots) l->of[l->count++] = number_of(**at);
        for (int i = 0; is_dots && i < ellipsis; i++) l->of[l->count++] = LABELS - ellipsis + i;
        if (is_dots) {
            *dots = true;
            *at += 2;
        }
    }
    return CLD_OK;
}

static int letters_in(const char *at) {
    int count = 0;
    for (; *at && *at != ',' && *at != '-'; at++) count += isalpha((unsigned char)*at) != 0;
    return count;
}

static cld_status note_extent(equation *e, const operand *o, int dim, int number) {
    int label = o->l.of[dim];
    int64_t extent = o->x->a.shape[dim], known = e->extents[label];
    if (!e->seen[label] || known == 1) e->extents[label] = extent;
    bool fits = !e->seen[label] || known == extent || known == 1 || extent == 1;
    e->seen[label] = true;
    if (fits) return CLD_OK;
    if (label >= LETTERS)
        return cld_fail(CLD_INVALID,
                        "einsum: '%s': the dimensions at '...' do not broadcast: %lld against %lld in %s",
                        e->text, (long long)known, (long long)extent, cld_describe(&o->x->a));
    return cld_fail(CLD_INVALID, "einsum: '%s': '%c' is %lld, but %lld in tensor %d, %s", e->text,
                    letter_of(label), (long long)known, (long long)extent, number, cld_describe(&o->x->a));
}

/* Reads the letters of the tensor's dimensions; *at is then after them. */
static cld_status read_operand(equation *e, const char **at, operand *o, int number) {
    bool dots;
    int given = letters_in(*at), ellipsis = o->x->a.ndim - given;
    CLD_TRY(read_subscript(e, at, ellipsis > 0 ? ellipsis : 0, &o->l, &dots));
    if (ellipsis < 0 || (ellipsis > 0 && !dots))
        return cld_fail(CLD_INVALID, "einsum: '%s': subscript %d has %d letter%s, its tensor is %s", e->text,
                        number, given, given == 1 ? "" : "s", cld_describe(&o->x->a));
    if (dots && ellipsis > e->ellipsis) e->ellipsis = ellipsis;
    for (int d = 0; d < o->l.count; d++) {
        e->times[o->l.of[d]]++;
        CLD_TRY(note_extent(e, o, d, number));
    }
    return CLD_OK;
}

/* Without an arrow: the ellipsis, then the letters that occur once, in alphabetical order, capitals first. */
static cld_status implied_output(equation *e) {
    int count = e->ellipsis;
    for (int label = 0; label < LETTERS; label++) count += e->times[label] == 1;
    if (count > CLD_MAX_DIMS)
        return cld_fail(CLD_INVALID, "einsum: '%s': the result would have %d dimensions, more than %d",
                        e->text, count, CLD_MAX_DIMS);
    for (int i = 0; i < e->ellipsis; i++) e->out.of[e->out.count++] = LABELS - e->ellipsis + i;
    for (int label = 0; label < LETTERS; label++)
        if (e->times[label] == 1) e->out.of[e->out.count++] = label;
    return CLD_OK;
}

static cld_status read_output(equation *e, const char *at) {
    bool dots;
    if (*at == '\0') {
        CLD_TRY(implied_output(e));
    } else {
        if (at[0] != '-' || at[1] != '>')
            return cld_fail(CLD_INVALID, "einsum: '%s': character %d is '%c'; expected '->'", e->text,
                            (int)(at - e->text) + 1, *at);
        at += 2;
        CLD_TRY(read_subscript(e, &at, e->ellipsis, &e->out, &dots));
        if (*at)
            return cld_fail(CLD_INVALID, "einsum: '%s': '%c' after the arrow; expected letters", e->text,
                            *at);
    }
    for (int i = 0; i < e->out.count; i++) {
        int label = e->out.of[i];
        if (!e->seen[label])
            return cld_fail(CLD_INVALID, "einsum: '%s': the result's '%c' is in no tensor", e->text,
                            letter_of(label));
        if (e->wanted[label])
            return cld_fail(CLD_INVALID, "einsum: '%s': the result has '%c' twice", e->text,
                            letter_of(label));
        e->wanted[label] = true;
    }
    return CLD_OK;
}

static cld_status read_equation(equation *e, operand *operands, int count) {
    const char *at = e->text;
    for (int i = 0; i < count; i++) {
        CLD_TRY(read_operand(e, &at, &operands[i], i + 1));
        if ((*at == ',') != (i < count - 1))
            return cld_fail(CLD_INVALID, "einsum: '%s': %s subscripts than the %d tensor%s", e->text,
                            *at == ',' ? "more" : "fewer", count, count == 1 ? "" : "s");
        if (*at == ',') at++;
    }
    return read_output(e, at);
}

/* ---- one tensor ---------------------------------------------------------------------------------------- */

/* Replaces o's tensor by x, taking over the reference. */
static cld_status becomes(operand *o, cld_tensor *x) {
    if (!x) return cld_error_code();
    cld_tensor_free(o->x);
    o->x = x;
    return CLD_OK;
}

static void remove_label(labels *l, int place) {
    for (int i = place; i < l->count - 1; i++) l->of[i] = l->of[i + 1];
    l->count--;
}

/* If a letter occurs twice: the diagonal, as the last dimension. */
static cld_status take_diagonals(const equation *e, operand *o) {
    for (int i = 0; i < o->l.count; i++) {
        int label = o->l.of[i], j = i + 1;
        while (j < o->l.count && o->l.of[j] != label) j++;
        if (j >= o->l.count) continue;
        if (o->x->a.shape[i] != o->x->a.shape[j])
            return cld_fail(CLD_INVALID, "einsum: '%s': '%c' is %lld and %lld in %s", e->text,
                            letter_of(label), (long long)o->x->a.shape[i], (long long)o->x->a.shape[j],
                            cld_describe(&o->x->a));
        CLD_TRY(becomes(o, cld_diagonal(o->x, 0, i, j)));
        remove_label(&o->l, j);
        remove_label(&o->l, i);
        o->l.of[o->l.count++] = label;
        i = -1;
    }
    return CLD_OK;
}

/* Expands extents of 1 to the letter's full extent. */
static cld_status widen(const equation *e, operand *o) {
    int64_t shape[CLD_MAX_DIMS];
    for (int d = 0; d < o->l.count; d++) shape[d] = e->extents[o->l.of[d]];
    return becomes(o, cld_expand_for("einsum", o->x, o->l.count, shape));
}

/* Sums over the letters that are not in needed. */
static cld_status sum_away(operand *o, const bool *needed) {
    int dims[CLD_MAX_DIMS], count = 0;
    labels left = {0};
    for (int d = 0; d < o->l.count; d++) {
        if (needed[o->l.of[d]])
            left.of[left.count++] = o->l.of[d];
        else
            dims[count++] = d;
    }
    if (count == 0) return CLD_OK;
    CLD_TRY(becomes(o, cld_sum(o->x, dims, count, false)));
    o->l = left;
    return CLD_OK;
}

/* x's dimensions in the order of wanted, which names all of them and may name more: those get extent 1. */
static cld_tensor *arranged(const operand *o, const labels *wanted) {
    int dims[CLD_MAX_DIMS], count = 0;
    int64_t shape[CLD_MAX_DIMS];
    for (int i = 0; i < wanted->count; i++) {
        int place = place_of(&o->l, wanted->of[i]);
        if (place >= 0) dims[count++] = place;
        shape[i] = place >= 0 ? o->x->a.shape[place] : 1;
    }
    CLD_AUTO cld_tensor *ordered = cld_permute(o->x, dims);
    return ordered ? cld_reshape_for("einsum", ordered, wanted->count, shape) : NULL;
}

/* ---- two tensors --------------------------------------------------------------------------------------- */

/* The letters of a pair: in both and still needed; only in the first or second; in both and summed over. */
typedef struct groups {
    labels both, first, second, ends;
} groups;

static groups groups_of(const labels *a, const labels *b, const bool *needed) {
    groups g = {0};
    for (int i = 0; i < a->count; i++) {
        int label = a->of[i];
        labels *l = place_of(b, label) < 0 ? &g.first : needed[label] ? &g.both : &g.ends;
        l->of[l->count++] = label;
    }
    for (int i = 0; i < b->count; i++)
        if (place_of(a, b->of[i]) < 0) g.second.of[g.second.count++] = b->of[i];
    return g;
}

static void append(labels *to, const labels *from) {
    for (int i = 0; i < from->count && to->count < CLD_MAX_DIMS; i++) to->of[to->count++] = from->of[i];
}

static int64_t extent_of(const equation *e, const labels *l) {
    int64_t extent = 1;
    for (int i = 0; i < l->count; i++) extent *= e->extents[l->of[i]];
    return extent;
}

/* The operand's elements as a batch of matrices (both, x, y). */
static cld_tensor *matrices(const equation *e, const operand *o, const labels *both, const labels *x,
                            const labels *y) {
    labels order = *both;
    append(&order, x);
    append(&order, y);
    CLD_AUTO cld_tensor *ordered = arranged(o, &order);
    int64_t shape[] = {extent_of(e, both), extent_of(e, x), extent_of(e, y)};
    return ordered ? cld_reshape_for("einsum", ordered, 3, shape) : NULL;
}

static cld_tensor *product(const equation *e, const operand *a, const operand *b, const groups *g,
                           const labels *result) {
    int64_t shape[CLD_MAX_DIMS];
    for (int i = 0; i < result->count; i++) shape[i] = e->extents[result->of[i]];
    CLD_AUTO cld_tensor *left = matrices(e, a, &g->both, &g->first, &g->ends);
    CLD_AUTO cld_tensor *right = left ? matrices(e, b, &g->both, &g->ends, &g->second) : NULL;
    CLD_AUTO cld_tensor *y = right ? cld_matmul(left, right) : NULL;
    return y ? cld_reshape_for("einsum", y, result->count, shape) : NULL;
}

/* Elementwise, if nothing is summed over, or only letters that both have: rows by rows, for example. */
static cld_tensor *elementwise(const operand *a, const operand *b, const groups *g, const labels *result) {
    labels all = *result;
    append(&all, &g->ends);
    CLD_AUTO cld_tensor *left = arranged(a, &all);
    CLD_AUTO cld_tensor *right = left ? arranged(b, &all) : NULL;
    CLD_AUTO cld_tensor *y = right ? cld_mul(left, right) : NULL;
    int dims[CLD_MAX_DIMS];
    for (int i = 0; i < g->ends.count; i++) dims[i] = result->count + i;
    return !y || g->ends.count == 0 ? cld_tensor_steal(&y) : cld_sum(y, dims, g->ends.count, false);
}

/* *a becomes the product of the two, with the letters in needed. */
static cld_status contract(const equation *e, operand *a, operand *b, const bool *needed) {
    bool in_a[LABELS], in_b[LABELS];
    for (int label = 0; label < LABELS; label++) {
        in_a[label] = needed[label] || place_of(&a->l, label) >= 0;
        in_b[label] = needed[label] || place_of(&b->l, label) >= 0;
    }
    CLD_TRY(sum_away(a, in_b));
    CLD_TRY(sum_away(b, in_a));
    groups g = groups_of(&a->l, &b->l, needed);
    int total = g.both.count + g.first.count + g.second.count;
    if (total > CLD_MAX_DIMS)
        return cld_fail(CLD_INVALID,
                        "einsum: '%s': an intermediate product would have %d dimensions, more than %d",
                        e->text, total, CLD_MAX_DIMS);
    labels result = g.both;
    append(&result, &g.first);
    append(&result, &g.second);
    bool rows = g.first.count == 0 && g.second.count == 0 && g.both.count > 0 &&
                result.count + g.ends.count <= CLD_MAX_DIMS;
    CLD_TRY(becomes(a, g.ends.count == 0 || rows ? elementwise(a, b, &g, &result)
                                                 : product(e, a, b, &g, &result)));
    a->l = result;
    return CLD_OK;
}

/* ---- all ----------------------------------------------------------------------------------------------- */

/* The letters in the result or in a tensor from `from` on. */
static void needed_from(const equation *e, const operand *operands, int from, int count, bool *needed) {
    memcpy(needed, e->wanted, sizeof e->wanted);
    for (int i = from; i < count; i++)
        for (int d = 0; d < operands[i].l.count; d++) needed[operands[i].l.of[d]] = true;
}

static cld_tensor *evaluate(equation *e, operand *operands, int count) {
    bool needed[LABELS];
    CLD_TRY_NULL(read_equation(e, operands, count));
    for (int i = 0; i < count; i++) {
        CLD_TRY_NULL(take_diagonals(e, &operands[i]));
        CLD_TRY_NULL(widen(e, &operands[i]));
    }
    for (int i = 1; i < count; i++) {
        needed_from(e, operands, i + 1, count, needed);
        CLD_TRY_NULL(contract(e, &operands[0], &operands[i], needed));
    }
    CLD_TRY_NULL(sum_away(&operands[0], e->wanted));
    return arranged(&operands[0], &e->out);
}

#define MOST_TENSORS 16

cld_tensor *cld_einsum(const char *text, cld_tensor *const *xs, int count) {
    equation e = {.text = text};
    operand operands[MOST_TENSORS] = {{0}};
    if (count > MOST_TENSORS)
        return cld_fail_null(CLD_INVALID, "einsum: at most %d tensors, got %d", MOST_TENSORS, count);
    cld_array kind = xs[0]->a;
    for (int i = 1; i < count; i++) {
        CLD_TRY_NULL(cld_check_same_device("einsum", xs[0], xs[i]));
        kind.dtype = cld_result_dtype(&kind, &xs[i]->a);
    }
    cld_tensor *y = NULL;
    int ready = 0;
    while (ready < count && (operands[ready].x = cld_cast(xs[ready], kind.dtype))) ready++;
    if (ready == count) y = evaluate(&e, operands, count);
    for (int i = 0; i < count; i++) drop(&operands[i]);
    return y;
}

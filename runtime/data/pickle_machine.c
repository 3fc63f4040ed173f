/* The pickle machine's parts: input, stack and marks, containers, memo. */
#include "runtime/data/pickle_machine.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- errors -------------------------------------------------------------------------------------------- */

cld_status cld__pickle_fail(const cld_pickle *p, const char *format, ...) {
    char what[512];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return cld_fail(CLD_IO, "%s: not a CIFAR batch file: at byte %zu, %s", p->path,
                    (size_t)(p->at - p->begin), what);
}

static cld_status fail_truncated(const cld_pickle *p) {
    return cld_fail(CLD_IO, "%s: truncated: the file ends after %zu bytes, in the middle of its pickle",
                    p->path, (size_t)(p->end - p->begin));
}

/* ---- input --------------------------------------------------------------------------------------------- */

cld_status cld__pickle_take(cld_pickle *p, uint64_t size, const uint8_t **out) {
    if (size > (uint64_t)(p->end - p->at)) return fail_truncated(p);
    *out = p->at;
    p->at += size;
    return CLD_OK;
}

cld_status cld__pickle_take_number(cld_pickle *p, int bytes, uint64_t *out) {
    const uint8_t *from = NULL;
    CLD_TRY(cld__pickle_take(p, (uint64_t)bytes, &from));
    *out = 0;
    for (int i = 0; i < bytes; i++) *out |= (uint64_t)from[i] << 8 * i;
    return CLD_OK;
}

cld_status cld__pickle_take_line(cld_pickle *p, const uint8_t **line, size_t *length) {
    const uint8_t *newline = memchr(p->at, '\n', (size_t)(p->end - p->at));
    if (!newline) return fail_truncated(p);
    *line = p->at;
    *length = (size_t)(newline - p->at);
    p->at = newline + 1;
    return CLD_OK;
}

/* ---- the stack ----------------------------------------------------------------------------------------- */

static void *push_raw(list *l, size_t size) {
    if (l->count == l->room) {
        size_t room = l->room ? 2 * l->room : 64;
        void *grown = realloc(l->data, room * size);
        if (!grown) return cld_fail_null(CLD_NOMEM, "out of memory while reading a pickle");
        l->data = grown;
        l->room = room;
    }
    return (char *)l->data + size * l->count++;
}

cld_status cld__pickle_push_value(cld_pickle *p, uint32_t i) {
    uint32_t *top = push_raw(&p->stack, sizeof *top);
    if (!top) return CLD_NOMEM;
    *top = i;
    return CLD_OK;
}

cld_status cld__pickle_push(cld_pickle *p, value v) {
    value *place = push_raw(&p->values, sizeof v);
    if (!place) return CLD_NOMEM;
    *place = v;
    return cld__pickle_push_value(p, (uint32_t)(p->values.count - 1));
}

/* The height below which the current mark lets nothing be popped. */
static size_t floor_of(const cld_pickle *p) {
    return p->marks.count ? ((size_t *)p->marks.data)[p->marks.count - 1] : 0;
}

cld_status cld__pickle_need(const cld_pickle *p, size_t n) {
    if (p->stack.count - floor_of(p) >= n) return CLD_OK;
    return cld__pickle_fail(p, "an opcode lacks its %zu operands", n);
}

cld_status cld__pickle_mark(cld_pickle *p) {
    size_t *mark = push_raw(&p->marks, sizeof *mark);
    if (!mark) return CLD_NOMEM;
    *mark = p->stack.count;
    return CLD_OK;
}

cld_status cld__pickle_pop_mark(cld_pickle *p, size_t *height) {
    if (!p->marks.count) return cld__pickle_fail(p, "an opcode lacks its mark");
    *height = floor_of(p);
    p->marks.count--;
    return CLD_OK;
}

/* ---- containers ---------------------------------------------------------------------------------------- */

/* Move what lies above `height` into the container. */
static cld_status fill(cld_pickle *p, uint32_t container, size_t height) {
    value *v = value_at(p, container);
    if (v->kind == DICT && (p->stack.count - height) % 2)
        return cld__pickle_fail(p, "a dictionary's key lacks its value");
    for (size_t i = height; i < p->stack.count; i++) {
        cell *c = push_raw(&p->cells, sizeof *c);
        if (!c) return CLD_NOMEM;
        *c = (cell){.value = *stack_at(p, i)};
        uint32_t number = (uint32_t)(p->cells.count - 1);
        if (v->items.count++)
            ((cell *)p->cells.data)[v->items.last].next = number;
        else
            v->items.first = number;
        v->items.last = number;
    }
    p->stack.count = height;
    return CLD_OK;
}

cld_status cld__pickle_new_container(cld_pickle *p, kind kind, size_t height) {
    value *place = push_raw(&p->values, sizeof *place);
    if (!place) return CLD_NOMEM;
    *place = (value){.kind = kind};
    uint32_t container = (uint32_t)(p->values.count - 1);
    CLD_TRY(fill(p, container, height));
    return cld__pickle_push_value(p, container);
}

cld_status cld__pickle_extend(cld_pickle *p, kind kind, size_t height) {
    const char *name = kind == DICT ? "dictionary" : "list";
    if (height <= floor_of(p)) return cld__pickle_fail(p, "there is no %s to put items into", name);
    uint32_t container = *stack_at(p, height - 1);
    if (value_at(p, container)->kind != kind)
        return cld__pickle_fail(p, "items are put into something that is no %s", name);
    return fill(p, container, height);
}

uint32_t cld__pickle_item(const cld_pickle *p, const value *v, uint32_t i) {
    if (i >= v->items.count) return 0;
    const cell *cells = p->cells.data;
    uint32_t c = v->items.first;
    while (i--) c = cells[c].next;
    return cells[c].value;
}

/* ---- memo ---------------------------------------------------------------------------------------------- */

cld_status cld__pickle_put(cld_pickle *p, uint64_t index) {
    CLD_TRY(cld__pickle_need(p, 1));
    if (index > (uint64_t)(p->end - p->begin))
        return cld__pickle_fail(p, "memo number %llu is out of range", (unsigned long long)index);
    while (p->memo.count <= index) {
        uint32_t *entry = push_raw(&p->memo, sizeof *entry);
        if (!entry) return CLD_NOMEM;
        *entry = 0;
    }
    ((uint32_t *)p->memo.data)[index] = *stack_at(p, p->stack.count - 1);
    return CLD_OK;
}

cld_status cld__pickle_get(cld_pickle *p, uint64_t index) {
    uint32_t found = index < p->memo.count ? ((uint32_t *)p->memo.data)[index] : 0;
    if (!found) return cld__pickle_fail(p, "memo number %llu was never put", (unsigned long long)index);
    return cld__pickle_push_value(p, found);
}

bool cld__pickle_equals(const value *v, const char *text) {
    return is_string(v) && v->string.size == strlen(text) &&
           memcmp(v->string.data, text, v->string.size) == 0;
}

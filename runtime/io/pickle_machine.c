/* The pickle machine's parts: stack and marks, containers, memo. */
#include "runtime/io/pickle_machine.h"

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
    return cld_fail(CLD_IO, "%s: not %s: at byte %llu%s, %s", p->source.path, p->source.kind,
                    (unsigned long long)p->at, p->source.memory ? " of data.pkl" : "", what);
}

/* ---- the stack ----------------------------------------------------------------------------------------- */

/* Appends to a list. The lists grow with a pickle's opcodes, not with its strings, and are bounded. */
static void *push_raw(cld_pickle *p, list *l, size_t size) {
    if (l->count == p->source.most)
        return (void)cld__pickle_fail(p, "it holds more values than %s of its size", p->source.kind), NULL;
    if (l->count == l->room) {
        size_t room = l->room ? 2 * l->room : 64;
        void *grown = realloc(l->data, room * size);
        if (!grown) return cld_fail_null(CLD_NOMEM, "%s: out of memory for its pickle", p->source.path);
        l->data = grown;
        l->room = room;
    }
    return (char *)l->data + size * l->count++;
}

cld_status cld__pickle_push_value(cld_pickle *p, uint32_t i) {
    uint32_t *top = push_raw(p, &p->stack, sizeof *top);
    if (!top) return cld_error_code();
    *top = i;
    return CLD_OK;
}

cld_status cld__pickle_push(cld_pickle *p, value v) {
    value *place = push_raw(p, &p->values, sizeof v);
    if (!place) return cld_error_code();
    *place = v;
    return cld__pickle_push_value(p, (uint32_t)(p->values.count - 1));
}

/* The height of the current mark: nothing below it may be popped. */
static size_t floor_of(const cld_pickle *p) {
    return p->marks.count ? ((size_t *)p->marks.data)[p->marks.count - 1] : 0;
}

cld_status cld__pickle_need(const cld_pickle *p, size_t n) {
    if (p->stack.count - floor_of(p) >= n) return CLD_OK;
    return cld__pickle_fail(p, "an opcode lacks its %zu operands", n);
}

cld_status cld__pickle_mark(cld_pickle *p) {
    size_t *mark = push_raw(p, &p->marks, sizeof *mark);
    if (!mark) return cld_error_code();
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

cld_status cld__pickle_append(cld_pickle *p, uint32_t container, uint32_t item) {
    cell *c = push_raw(p, &p->cells, sizeof *c);
    if (!c) return cld_error_code();
    *c = (cell){.value = item};
    uint32_t number = (uint32_t)(p->cells.count - 1);
    value *v = value_at(p, container);
    if (v->items.count++)
        ((cell *)p->cells.data)[v->items.last].next = number;
    else
        v->items.first = number;
    v->items.last = number;
    return CLD_OK;
}

/* Moves the values above `height` into the container. */
static cld_status fill(cld_pickle *p, uint32_t container, size_t height) {
    if (value_at(p, container)->kind == CLD_PICKLE_DICT && (p->stack.count - height) % 2)
        return cld__pickle_fail(p, "a dictionary's key lacks its value");
    for (size_t i = height; i < p->stack.count; i++)
        CLD_TRY(cld__pickle_append(p, container, *stack_at(p, i)));
    p->stack.count = height;
    return CLD_OK;
}

/* *container: its number. */
static cld_status make_container(cld_pickle *p, kind kind, uint32_t *container) {
    value *place = push_raw(p, &p->values, sizeof *place);
    if (!place) return cld_error_code();
    *place = (value){.kind = kind};
    *container = (uint32_t)(p->values.count - 1);
    return CLD_OK;
}

cld_status cld__pickle_new_container(cld_pickle *p, kind kind, size_t height) {
    uint32_t container = 0;
    CLD_TRY(make_container(p, kind, &container));
    CLD_TRY(fill(p, container, height));
    return cld__pickle_push_value(p, container);
}

/* Gives values to an object of an unknown class: pairs become entries, others items. */
static cld_status extend_object(cld_pickle *p, uint32_t object, bool pairs, size_t height) {
    uint32_t held = pairs ? value_at(p, object)->object.entries : value_at(p, object)->object.items;
    if (!held) {
        CLD_TRY(make_container(p, pairs ? CLD_PICKLE_DICT : CLD_PICKLE_LIST, &held));
        value *v = value_at(p, object);
        *(pairs ? &v->object.entries : &v->object.items) = held;
    }
    return fill(p, held, height);
}

cld_status cld__pickle_extend(cld_pickle *p, kind kind, size_t height) {
    const char *name = kind == CLD_PICKLE_DICT ? "dictionary" : kind == CLD_PICKLE_SET ? "set" : "list";
    if (height <= floor_of(p)) return cld__pickle_fail(p, "there is no %s to put items into", name);
    uint32_t container = *stack_at(p, height - 1);
    if (value_at(p, container)->kind == CLD_PICKLE_OBJECT)
        return extend_object(p, container, kind == CLD_PICKLE_DICT, height);
    if (value_at(p, container)->kind != kind)
        return cld__pickle_fail(p, "items are put into something that is not a %s", name);
    return fill(p, container, height);
}

uint32_t cld_pickle_item(const cld_pickle *p, const value *v, uint32_t i) {
    if (i >= v->items.count) return 0;
    const cell *cells = p->cells.data;
    uint32_t c = v->items.first;
    while (i--) c = cells[c].next;
    return cells[c].value;
}

cld_pickle_cursor cld_pickle_items(const value *v) {
    return (cld_pickle_cursor){.cell = v->items.first, .left = v->items.count};
}

bool cld_pickle_next(const cld_pickle *p, cld_pickle_cursor *c, uint32_t *item) {
    if (!c->left) return false;
    const cell *at = (const cell *)p->cells.data + c->cell;
    *item = at->value;
    c->left--;
    if (c->left) c->cell = at->next;
    return true;
}

/* ---- memo ---------------------------------------------------------------------------------------------- */

cld_status cld__pickle_put(cld_pickle *p, uint64_t index) {
    CLD_TRY(cld__pickle_need(p, 1));
    if (index >= p->source.most)
        return cld__pickle_fail(p, "memo number %llu is out of range", (unsigned long long)index);
    while (p->memo.count <= index) {
        uint32_t *entry = push_raw(p, &p->memo, sizeof *entry);
        if (!entry) return cld_error_code();
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

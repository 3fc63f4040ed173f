/* Functions that backward calls with a complete gradient. A hook belongs to its list and to the caller that added it. A
 * removed hook stays in the list, without a function, until the list is next prepared or freed. */
#include <stdlib.h>

#include "runtime/autograd/tape.h"

struct cld_hook {
    cld_hook *next;
    atomic_int refs; /* the list's and the caller's */
    int output;
    cld_tensor *(*fn)(void *context, cld_tensor *gradient); /* NULL: removed */
    void (*destroy)(void *context);
    void *context;
};

void cld_hook_remove(cld_hook *h) {
    if (!h->fn) return;
    h->fn = NULL;
    if (h->destroy) h->destroy(h->context);
}

void cld_hook_free(cld_hook *h) {
    if (!h || atomic_fetch_sub(&h->refs, 1) != 1) return;
    cld_hook_remove(h);
    free(h);
}

/* A list lives as long as its tensor or node: hooks end with it, even if somebody still holds one. */
void cld__drop_hooks(cld_hook **list) {
    while (*list) {
        cld_hook *h = *list;
        *list = h->next;
        cld_hook_remove(h);
        cld_hook_free(h);
    }
}

static void unlink_removed(cld_hook **list) {
    for (cld_hook **at = list; *at;) {
        cld_hook *h = *at;
        if (h->fn) {
            at = &h->next;
            continue;
        }
        *at = h->next;
        cld_hook_free(h);
    }
}

static cld_hook *cannot_add(cld_status code, const char *why, void (*destroy)(void *context), void *context) {
    if (destroy) destroy(context);
    cld_fail(code, "register_hook: %s", why);
    return NULL;
}

cld_hook *cld_add_hook(cld_tensor *t, cld_tensor *(*fn)(void *context, cld_tensor *gradient),
                       void (*destroy)(void *context), void *context) {
    if (!cld_wants_grad(t))
        return cannot_add(CLD_INVALID, "the tensor does not require a gradient; call requires_grad_() on it",
                          destroy, context);
    if (t->node && (t->node->incomplete || t->node->released))
        return cannot_add(CLD_INVALID, "backward has passed through the tensor's graph, or it is incomplete",
                          destroy, context);
    cld_hook *h = malloc(sizeof *h), **end = t->node ? &t->node->hooks : &t->hooks;
    if (!h) return cannot_add(CLD_NOMEM, "out of memory", destroy, context);
    *h = (cld_hook){
        .refs = 2, .output = t->node ? t->output : 0, .fn = fn, .destroy = destroy, .context = context};
    while (*end) end = &(*end)->next;
    *end = h;
    return h;
}

bool cld__has_hooks(const cld_hook *list, int output) {
    for (; list; list = list->next)
        if (list->fn && list->output == output) return true;
    return false;
}

static cld_status check_replacement(const cld_tensor *old, const cld_tensor *new) {
    if (cld_same_shape(&old->a, &new->a) && old->a.dtype == new->a.dtype &&
        cld_device(old) == cld_device(new))
        return CLD_OK;
    return cld_fail(CLD_INVALID, "hook: it returned %s on %s in place of the gradient, which is %s on %s",
                    cld_describe(&new->a), cld_device(new)->name, cld_describe(&old->a),
                    cld_device(old)->name);
}

cld_status cld__run_hooks(cld_hook **list, int output, cld_tensor **gradient) {
    cld_status status = CLD_OK;
    unlink_removed(list);
    cld_hook *h = *list;
    if (h) atomic_fetch_add(&h->refs, 1);
    while (h) {
        if (status == CLD_OK && h->fn && h->output == output) {
            cld_tensor *next = h->fn(h->context, *gradient);
            status = next ? check_replacement(*gradient, next) : cld_error_code();
            if (status == CLD_OK) {
                cld_tensor_free(*gradient);
                *gradient = next;
            } else {
                cld_tensor_free(next);
            }
        }
        cld_hook *after = h->next;
        if (after) atomic_fetch_add(&after->refs, 1);
        cld_hook_free(h);
        h = after;
    }
    return status;
}

/* Actions to run after backward: an op requests one while backward runs, and it runs when all gradients are there, or
 * when an optimizer says so. */
#include "runtime/autograd/deferred.h"

#include <stdlib.h>

typedef struct cld_callback {
    struct cld_callback *next;
    cld_status (*fn)(void *context);
    void (*destroy)(void *context);
    void *context;
} cld_callback;

static _Thread_local cld_deferred *asked;           /* where requests go; NULL: no backward is running */
static _Thread_local cld_tensor *running_condition; /* borrowed from cld_deferred_run's caller */

cld_tensor *cld_backward_condition(void) { return running_condition; }

cld_status cld_after_backward(cld_status (*fn)(void *context), void (*destroy)(void *context),
                              void *context) {
    cld_callback *c = asked ? malloc(sizeof *c) : NULL;
    if (!c) {
        if (destroy) destroy(context);
        return cld_fail(CLD_NOMEM, "after_backward: %s", asked ? "out of memory" : "no backward is running");
    }
    *c = (cld_callback){.fn = fn, .destroy = destroy, .context = context};
    if (asked->last)
        asked->last->next = c;
    else
        asked->first = c;
    asked->last = c;
    return CLD_OK;
}

/* fn may add more requests. */
static cld_status run_callbacks(cld_deferred *list, cld_status status) {
    while (list->first) {
        cld_callback *c = list->first;
        list->first = c->next;
        if (!c->next) list->last = NULL;
        if (status == CLD_OK) status = c->fn(c->context);
        if (c->destroy) c->destroy(c->context);
        free(c);
    }
    return status;
}

cld_status cld_deferred_run(cld_deferred *later, cld_tensor *condition) {
    if (asked) return cld_fail(CLD_INVALID, "backward: cannot finish inside another backward");
    cld_grad_scope off;
    cld_grad_scope_begin(&off, false);
    asked = later;
    running_condition = condition;
    cld_status status = run_callbacks(later, CLD_OK);
    asked = NULL;
    running_condition = NULL;
    cld_grad_scope_end(&off);
    return status;
}

void cld_deferred_drop(cld_deferred *later) { run_callbacks(later, CLD_INVALID); }

cld_status cld__begin_deferring(const char *op, cld_deferred *list) {
    if (asked) return cld_fail(CLD_INVALID, "%s: called inside another backward", op);
    asked = list;
    return CLD_OK;
}

void cld__end_deferring(void) { asked = NULL; }

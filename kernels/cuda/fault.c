/* The one record of a fault that a kernel found on the device, and how the host gets to see it: a copy is queued before
 * every wait, and at the end of every step, at which the host waits for the step CLD_STEPS_AHEAD before. */
#include "kernels/cuda/cuda.h"

/* A copy that was queued before the record was last cleared repeats what was already reported. */
typedef struct seen {
    cld_fault fault;
    int cleared; /* how often it had been cleared when the copy was queued */
} seen;

static cld_fault *record;
static seen *copies; /* page-locked: one for each step that may be in flight, and the last for waits */
static int cleared;
static unsigned steps;

cld_fault *cld_cuda_fault(void) { return record; }

cld_status cld_cuda_open_faults(void) {
    void *on_device, *locked;
    CLD_TRY(cld_cuda_malloc(&on_device, sizeof *record));
    CLD_TRY(cld_cuda_malloc_locked(&locked, (CLD_STEPS_AHEAD + 1) * sizeof *copies));
    record = on_device;
    copies = locked;
    return cld_cuda_clear(record, sizeof *record);
}

static cld_status fetch(seen *copy) {
    copy->cleared = cleared;
    return cld_cuda_queue_to_host(&copy->fault, record, sizeof *record);
}

static cld_status check(const seen *copy) {
    static const char *const texts[] = {
#define CLD_TEXT(name, text) [CLD_FAULT_##name] = text,
        CLD_FAULTS(CLD_TEXT)
#undef CLD_TEXT
    };
    cld_fault f = copy->fault;
    if (f.kind == CLD_FAULT_NONE || copy->cleared != cleared) return CLD_OK;
    cleared++;
    CLD_TRY(cld_cuda_clear(record, sizeof *record));
    if (f.kind == CLD_FAULT_DIVISION) return cld_fail(CLD_INVALID, "%s is %lld", texts[f.kind], f.value);
    return cld_fail(CLD_INVALID, "%s %lld is out of range: expected 0 to %lld", texts[f.kind], f.value,
                    f.extent - 1);
}

cld_status cld_cuda_fetch_faults(void) { return fetch(&copies[CLD_STEPS_AHEAD]); }
cld_status cld_cuda_check_faults(void) { return check(&copies[CLD_STEPS_AHEAD]); }

cld_status cld_cuda_end_step(void) {
    if (cld_cuda_capturing()) return CLD_OK; /* nothing has run yet: the replays are steps */
    int which = (int)(steps % CLD_STEPS_AHEAD);
    if (steps >= CLD_STEPS_AHEAD) CLD_TRY(cld_cuda_wait_for_step(which));
    cld_status found = steps >= CLD_STEPS_AHEAD ? check(&copies[which]) : CLD_OK;
    steps++;
    CLD_TRY(fetch(&copies[which]));
    CLD_TRY(cld_cuda_mark_step(which));
    return found;
}

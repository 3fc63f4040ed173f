#include "runtime/tensor/device.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/tensor/plugin.h"

static const cld_backend *cuda; /* opened */

static void (*reclaim_hook)(void *context);
static void *reclaim_context;

void cld_set_reclaim(void (*reclaim)(void *context), void *context) {
    reclaim_hook = reclaim;
    reclaim_context = context;
    cld_cpu_backend()->memory->set_reclaim(reclaim, context);
    if (cuda) cuda->memory->set_reclaim(reclaim, context);
}

static bool tf32;

void cld_device_allow_tf32(bool on) {
    tf32 = on;
    if (cuda && cuda->math->allow_tf32) cuda->math->allow_tf32(on);
}

const cld_backend *cld_device_cuda(void) { return cuda; }

/* The N of "cuda:N"; -1 for "cuda", -2 for anything else. */
static int ordinal_of(const char *name) {
    if (strncmp(name, "cuda", 4) != 0) return -2;
    if (name[4] == '\0') return -1;
    if (name[4] != ':' || strspn(name + 5, "0123456789") != strlen(name + 5)) return -2;
    size_t digits = strlen(name + 5);
    return digits >= 1 && digits <= 3 ? atoi(name + 5) : -2;
}

bool cld_device_named(const char *name) { return strcmp(name, "cpu") == 0 || ordinal_of(name) != -2; }

static const cld_backend *open_cuda(int ordinal) {
    const cld_plugin *plugin = cld__plugin_load();
    int devices;
    if (!plugin || plugin->count(&devices) != CLD_OK) return NULL;
    if (ordinal >= devices)
        return cld_fail_null(CLD_INVALID, "there is no cuda:%d; there %s %d CUDA device%s", ordinal,
                             devices == 1 ? "is" : "are", devices, devices == 1 ? "" : "s");
    const cld_backend *device = plugin->open(ordinal);
    if (!device) return NULL;
    if (!cuda) device->memory->set_reclaim(reclaim_hook, reclaim_context);
    cuda = device;
    cld_device_allow_tf32(tf32);
    return cuda;
}

const cld_backend *cld_device_find(const char *name) {
    int ordinal = ordinal_of(name);
    if (strcmp(name, "cpu") == 0) return cld_cpu_backend();
    if (ordinal == -2)
        return cld_fail_null(CLD_INVALID, "there is no device '%s'; expected cpu, cuda or cuda:N", name);
    if (ordinal == -1 && cuda) return cuda;
    const cld_backend *device = open_cuda(ordinal < 0 ? 0 : ordinal);
    if (!device) cld_fail_in("device '%s'", name);
    return device;
}

const cld_backend *cld_device_auto(void) {
    const cld_plugin *plugin = cld__plugin_load();
    if (plugin && plugin->emulated)
        return (void)cld_fail(CLD_UNSUPPORTED, "its kernels would run on the host"), cld_cpu_backend();
    const cld_backend *device = !plugin ? NULL : cuda ? cuda : open_cuda(0);
    return device ? device : cld_cpu_backend();
}

cld_status cld_device_count(int *devices) {
    const cld_plugin *plugin = cld__plugin_load();
    *devices = 0;
    return plugin ? plugin->count(devices) : cld_error_code();
}

cld_status cld_device_facts_of(int ordinal, cld_device_facts *out) {
    const cld_plugin *plugin = cld__plugin_load();
    return plugin ? plugin->facts(ordinal, out) : cld_error_code();
}

bool cld_device_emulated(void) {
    const cld_plugin *plugin = cld__plugin_load();
    return plugin && plugin->emulated;
}

/* Devices by name, and the library with the CUDA devices.
 *
 * The cpu is always there. "cuda" and "cuda:N" come from libcld_cuda.so, which is looked for when they are first asked
 * about: at $CLD_CUDA_PLUGIN, beside the program, and where `make install` puts it. If the system's loader does not
 * find a library that it needs (cuDNN, cuBLAS), CUDA's usual folder and Python wheels are tried.
 *
 * A process uses only one CUDA device; "cuda" means that one, or "cuda:0" if none is open yet.
 */
#ifndef CLD_TENSOR_DEVICE_H
#define CLD_TENSOR_DEVICE_H

#include "kernels/backend.h"

/* Opens it if it is not open; NULL with an error that says why there is none. */
const cld_backend *cld_device_find(const char *name);
/* Is this a device's name, whether the device exists or not: "cpu", "cuda", "cuda:3"? */
bool cld_device_named(const char *name);
/* cuda:0 if it can compute, else the cpu; the thread's error record then says why. An emulated device is not chosen. */
const cld_backend *cld_device_auto(void);
/* The opened CUDA device, or NULL. */
const cld_backend *cld_device_cuda(void);

/* The number of CUDA devices, opened or not. An error if there can be none. */
cld_status cld_device_count(int *devices);
cld_status cld_device_facts_of(int ordinal, cld_device_facts *out);
bool cld_device_emulated(void); /* runs its kernels on the host */

/* Lets every device that supports it, opened now or later, use tf32 for products and convolutions of f32. */
void cld_device_allow_tf32(bool on);

/* A training step's work is queued; see cld_memory_ops. */
static inline cld_status cld_device_end_step(const cld_backend *device) {
    return device->memory->end_step ? device->memory->end_step() : CLD_OK;
}

/* Called when an allocation has failed, on any device, before its one retry: the bindings collect garbage here. */
void cld_set_reclaim(void (*reclaim)(void *context), void *context);

#endif

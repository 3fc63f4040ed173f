/* A CUDA runtime without a GPU, for kernels/cuda/device.c and staging.c: work that is queued lies in its stream's queue
 * until something waits, and a capture is ended by what ends it on a GPU. What goes wrong is chosen here. */
#ifndef CLD_SPEC_CUDA_RUNTIME_FAKE_H
#define CLD_SPEC_CUDA_RUNTIME_FAKE_H

#include <cuda_runtime_api.h>
#include <functional>

struct cld_fake_settings {
    cudaError_t count;  /* what cudaGetDeviceCount says */
    int driver;         /* version; 0: there is none */
    int major;          /* compute capability */
    cudaError_t launch; /* what every launch says */
    cudaError_t event;  /* what making an event says */
    cudaError_t lost;   /* from now on every call says so */
    size_t memory;      /* bytes of the device */
    size_t page_locked; /* bytes of the host that may be */
};
extern cld_fake_settings fake;

/* As a kernel's launch; on the first stream, if none is named. */
cudaError_t fake_launch(std::function<void()> work, cudaStream_t on = nullptr);
/* What is queued on this stream is done, and of others what it waits for. */
void fake_run_alone(cudaStream_t stream);
/* Page-locked bytes that are held, how often some were asked for, and things queued that were not done yet. */
size_t fake_page_locked();
int fake_page_locked_calls();
size_t fake_queued();

#endif

/* A CUDA runtime without a GPU, for kernels/cuda/device.c and staging.c: queued work stays in its stream's queue until
 * something waits, and the same calls end a capture as on a GPU. The fields below choose the failures. */
#ifndef CLD_SPEC_CUDA_RUNTIME_FAKE_H
#define CLD_SPEC_CUDA_RUNTIME_FAKE_H

#include <cuda_runtime_api.h>
#include <functional>

struct cld_fake_settings {
    cudaError_t count;  /* result of cudaGetDeviceCount */
    int driver;         /* version; 0: there is none */
    int major;          /* compute capability */
    cudaError_t launch; /* result of every launch */
    cudaError_t event;  /* result of making an event */
    cudaError_t lost;   /* from now on every call returns it */
    size_t memory;      /* bytes of the device */
    size_t page_locked; /* bytes of the host that may be page-locked */
};
extern cld_fake_settings fake;

/* A kernel launch; on the first stream, unless one is given. */
cudaError_t fake_launch(std::function<void()> work, cudaStream_t on = nullptr);
/* Runs what is queued on this stream, and from other streams only what it waits for. */
void fake_run_alone(cudaStream_t stream);
/* Page-locked bytes held, how often some were requested, and how many queued things are not done yet. */
size_t fake_page_locked();
int fake_page_locked_calls();
size_t fake_queued();

#endif

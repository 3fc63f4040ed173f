/* For .cu files: what a kernel may use, and how it is launched.
 *
 * Each .cu file is compiled twice: by nvcc for the GPU, and by g++ against host/launch.h, which runs a launch on the
 * host, one cooperative context per thread, so that the specs can run every kernel anywhere. For both to work:
 *
 *   launches         CLD_TRY(CLD_LAUNCH(scale, blocks, threads, shared_bytes, out, x, n));
 *                    (a kernel with commas in its name goes in parentheses: CLD_LAUNCH((copy<float, int>), ...)); blocks
 *                    and threads are ints or dim3; an empty launch (0 blocks) is an error, so return before it.
 *   shared memory    CLD_SHARED(float, tile, [32][33]);  static; undefined at the start, as on the GPU
 *                    CLD_DYNAMIC_SHARED(float, rows);    the launch's shared_bytes, 16-byte aligned; once per kernel
 *   barriers         __syncthreads, __syncwarp, __shfl_*_sync, __ballot_sync, __any_sync, __all_sync: by all threads
 *                    of the block, or of the mask; __syncthreads_or, __threadfence
 *   atomics          atomicAdd on int, unsigned, unsigned long long, float, double; Min, Max, Exch, CAS on integers
 *   vectors          float2/4, double2, int2/4, uint2/4 and make_*; 16-byte loads through them
 *   half precision   __nv_bfloat16, __half, and their conversions from and to float: load(), store() of number.cuh
 *   not              textures, cooperative groups, tensor-core instructions, printf, recursion, assert
 *
 * Functions in the plugin's tables have C linkage, check nothing that the contract already guarantees, and return the
 * status of the launch.
 */
#ifndef CLD_CUDA_LAUNCH_H
#define CLD_CUDA_LAUNCH_H

#include "kernels/cuda/device.h"

#ifdef __CUDACC__

#    include <cuda_bf16.h>
#    include <cuda_fp16.h>
#    include <cuda_runtime.h>

#    define CLD_LAUNCH(kernel, blocks, threads, shared_bytes, ...)                                           \
        (kernel<<<(blocks), (threads), (shared_bytes), (cudaStream_t)cld_cuda_stream()>>>(__VA_ARGS__),      \
         cld_cuda_launched(#kernel))
#    define CLD_SHARED(type, name, extents) __shared__ type name extents
#    define CLD_DYNAMIC_SHARED(type, name)                                                                   \
        extern __shared__ __align__(16) unsigned char cld_dynamic_shared[];                                  \
        type *name = reinterpret_cast<type *>(cld_dynamic_shared)

#else
#    include "kernels/cuda/host/launch.h"
#endif

#endif

/* Atomics: threads switch only when they wait, so plain reads and writes are enough. Only the overloads that CUDA
 * has. */
#ifndef CLD_CUDA_HOST_ATOMICS_H
#define CLD_CUDA_HOST_ATOMICS_H

#define CLD_HOST_ATOMIC(name, T, expression)                                                                 \
    inline T name(T *address, T value) {                                                                     \
        T old = *address;                                                                                    \
        *address = (T)(expression);                                                                          \
        return old;                                                                                          \
    }
#define CLD_HOST_INTEGERS(name, expression)                                                                  \
    CLD_HOST_ATOMIC(name, int, expression)                                                                   \
    CLD_HOST_ATOMIC(name, unsigned, expression)                                                              \
    CLD_HOST_ATOMIC(name, unsigned long long, expression)

/* clang-format off */
CLD_HOST_ATOMIC(atomicAdd, int, (unsigned)old + (unsigned)value)
CLD_HOST_ATOMIC(atomicAdd, unsigned, old + value)
CLD_HOST_ATOMIC(atomicAdd, unsigned long long, old + value)
CLD_HOST_ATOMIC(atomicAdd, float, old + value)
CLD_HOST_ATOMIC(atomicAdd, double, old + value)
CLD_HOST_ATOMIC(atomicSub, int, (unsigned)old - (unsigned)value)
CLD_HOST_ATOMIC(atomicSub, unsigned, old - value)
CLD_HOST_INTEGERS(atomicExch, value)
CLD_HOST_ATOMIC(atomicExch, float, value)
CLD_HOST_INTEGERS(atomicMin, value < old ? value : old)
CLD_HOST_ATOMIC(atomicMin, long long, value < old ? value : old)
CLD_HOST_INTEGERS(atomicMax, value > old ? value : old)
CLD_HOST_ATOMIC(atomicMax, long long, value > old ? value : old)
CLD_HOST_INTEGERS(atomicAnd, old & value)
CLD_HOST_INTEGERS(atomicOr, old | value)
CLD_HOST_INTEGERS(atomicXor, old ^ value)
CLD_HOST_ATOMIC(atomicInc, unsigned, old >= value ? 0 : old + 1)
CLD_HOST_ATOMIC(atomicDec, unsigned, old == 0 || old > value ? value : old - 1)
/* clang-format on */
#undef CLD_HOST_INTEGERS
#undef CLD_HOST_ATOMIC

#define CLD_HOST_CAS(T)                                                                                      \
    inline T atomicCAS(T *address, T expected, T value) {                                                    \
        T old = *address;                                                                                    \
        if (old == expected) *address = value;                                                               \
        return old;                                                                                          \
    }
CLD_HOST_CAS(int)
CLD_HOST_CAS(unsigned)
CLD_HOST_CAS(unsigned short)
CLD_HOST_CAS(unsigned long long)
#undef CLD_HOST_CAS

inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

#endif

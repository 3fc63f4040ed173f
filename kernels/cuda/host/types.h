/* CUDA's small vectors and dim3, with the alignment that they have on the device. */
#ifndef CLD_CUDA_HOST_TYPES_H
#define CLD_CUDA_HOST_TYPES_H

/* Name, element, and the alignment of the vectors of two and of four. */
#define CLD_HOST_VECTORS(X)                                                                                  \
    X(char, signed char, 2, 4)                                                                               \
    X(uchar, unsigned char, 2, 4)                                                                            \
    X(short, short, 4, 8)                                                                                    \
    X(ushort, unsigned short, 4, 8)                                                                          \
    X(int, int, 8, 16)                                                                                       \
    X(uint, unsigned, 8, 16)                                                                                 \
    X(long, long, 16, 16)                                                                                    \
    X(ulong, unsigned long, 16, 16)                                                                          \
    X(longlong, long long, 16, 16)                                                                           \
    X(ulonglong, unsigned long long, 16, 16)                                                                 \
    X(float, float, 8, 16)                                                                                   \
    X(double, double, 16, 16)

#define CLD_HOST_VECTOR(name, T, two, four)                                                                  \
    struct name##1 {                                                                                         \
        T x;                                                                                                 \
    };                                                                                                       \
    struct __attribute__((aligned(two))) name##2 {                                                           \
        T x, y;                                                                                              \
    };                                                                                                       \
    struct name##3 {                                                                                         \
        T x, y, z;                                                                                           \
    };                                                                                                       \
    struct __attribute__((aligned(four))) name##4 {                                                          \
        T x, y, z, w;                                                                                        \
    };                                                                                                       \
    inline name##1 make_##name##1(T x) { return {x}; }                                                       \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                               \
    inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                                       \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
CLD_HOST_VECTORS(CLD_HOST_VECTOR)
#undef CLD_HOST_VECTOR
#undef CLD_HOST_VECTORS

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
};

#endif

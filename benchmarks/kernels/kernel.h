/* What the kernels share.

   A kernel is one file with `uint32_t run(uint32_t n)`: it does work that grows with n and returns
   a checksum, by which the engines are held against each other. It uses no library, and keeps its
   data in `arena`, which is zero at the start of the first call only. The files are valid C and
   C++: large.cc includes each of them many times, in namespaces. */
#ifndef KERNEL_H
#define KERNEL_H

#include <stdint.h>

#define ARENA_BYTES (32u << 20)

static uint64_t arena[ARENA_BYTES / 8];

/* Marsaglia's xorshift, for input data. The state must not be 0. */
static inline uint32_t next_random(uint32_t *state) {
    uint32_t x = *state;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return *state = x;
}

/* The bits of a float result, folded into a checksum. */
static inline uint32_t fold(double value) {
    union { double value; uint64_t bits; } u;
    u.value = value;
    return (uint32_t)(u.bits ^ (u.bits >> 32));
}

#endif

/* SIMD: n rounds of y += a * x and of a dot product, on vectors of four floats. */
#include "kernel.h"

#define VECTORS 4096

typedef float Float4 __attribute__((vector_size(16)));

uint32_t run(uint32_t n) {
    Float4 *x = (Float4 *)arena, *y = x + VECTORS;
    uint32_t seed = 7;
    Float4 sum = {0, 0, 0, 0};
    for (uint32_t i = 0; i < VECTORS; i++) {
        for (int lane = 0; lane < 4; lane++) {
            x[i][lane] = (float)(next_random(&seed) & 0xffff) * 0x1p-16f;
            y[i][lane] = (float)(next_random(&seed) & 0xffff) * 0x1p-16f;
        }
    }
    for (uint32_t round = 0; round < n; round++) {
        float factor = 1.0f / (float)(round + 2);
        Float4 a = {factor, factor, factor, -factor};
        for (uint32_t i = 0; i < VECTORS; i++) y[i] += a * x[i];
        Float4 product = {0, 0, 0, 0};
        for (uint32_t i = 0; i < VECTORS; i++) product += x[i] * y[i];
        sum += product;
    }
    return fold((double)sum[0] + sum[1] + sum[2] + sum[3]);
}

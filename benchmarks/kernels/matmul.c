/* Matrix product: n by n matrices of doubles, the loops in the order that runs along rows. */
#include "kernel.h"

uint32_t run(uint32_t n) {
    double *a = (double *)arena, *b = a + n * n, *c = b + n * n;
    uint32_t seed = 31337, checksum = 0;
    for (uint32_t i = 0; i < n * n; i++) {
        a[i] = next_random(&seed) * 0x1p-32;
        b[i] = next_random(&seed) * 0x1p-32;
        c[i] = 0.0;
    }
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t k = 0; k < n; k++) {
            double factor = a[i * n + k];
            for (uint32_t j = 0; j < n; j++) c[i * n + j] += factor * b[k * n + j];
        }
    }
    for (uint32_t i = 0; i < n; i++) checksum ^= fold(c[i * n + i]);
    return checksum;
}

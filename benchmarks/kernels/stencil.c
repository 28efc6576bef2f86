/* Memory-bound: n sweeps of a five-point stencil over two grids of 8 MiB each. */
#include "kernel.h"

#define SIDE 1024

uint32_t run(uint32_t n) {
    double *from = (double *)arena, *to = from + SIDE * SIDE;
    uint32_t seed = 99, checksum = 0;
    for (uint32_t i = 0; i < SIDE * SIDE; i++) from[i] = to[i] = next_random(&seed) * 0x1p-32;
    for (uint32_t sweep = 0; sweep < n; sweep++) {
        for (uint32_t y = 1; y < SIDE - 1; y++) {
            for (uint32_t x = 1; x < SIDE - 1; x++) {
                uint32_t i = y * SIDE + x;
                to[i] = 0.5 * from[i]
                    + 0.125 * (from[i - 1] + from[i + 1] + from[i - SIDE] + from[i + SIDE]);
            }
        }
        double *swap = from;
        from = to;
        to = swap;
    }
    for (uint32_t i = 0; i < SIDE; i++) checksum ^= fold(from[i * SIDE + i]);
    return checksum;
}

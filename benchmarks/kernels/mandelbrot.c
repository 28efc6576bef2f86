/* Float: escape times of an n by n picture of the Mandelbrot set. Registers only. */
#include "kernel.h"

uint32_t run(uint32_t n) {
    uint32_t total = 0;
    for (uint32_t row = 0; row < n; row++) {
        for (uint32_t column = 0; column < n; column++) {
            double cr = 3.0 * column / n - 2.0, ci = 2.0 * row / n - 1.0;
            double zr = 0.0, zi = 0.0;
            uint32_t i = 0;
            while (i < 100 && zr * zr + zi * zi < 4.0) {
                double next = zr * zr - zi * zi + cr;
                zi = 2.0 * zr * zi + ci;
                zr = next;
                i++;
            }
            total += i;
        }
    }
    return total;
}

/* Integer: the longest Collatz sequence below n. 64-bit arithmetic, unpredictable branches. */
#include "kernel.h"

uint32_t run(uint32_t n) {
    uint32_t longest = 0, where = 0;
    for (uint32_t start = 1; start < n; start++) {
        uint64_t x = start;
        uint32_t steps = 0;
        while (x != 1) {
            x = x & 1 ? 3 * x + 1 : x >> 1;
            steps++;
        }
        if (steps > longest) {
            longest = steps;
            where = start;
        }
    }
    return where ^ longest << 20;
}

/* Integer: counts the primes below n with the sieve of Eratosthenes. Byte stores with a stride. */
#include "kernel.h"

uint32_t run(uint32_t n) {
    uint8_t *composite = (uint8_t *)arena;
    uint32_t count = 0;
    for (uint32_t i = 0; i < n; i++) composite[i] = 0;
    for (uint32_t i = 2; i < n; i++) {
        if (composite[i]) continue;
        count++;
        for (uint64_t j = (uint64_t)i * i; j < n; j += i) composite[j] = 1;
    }
    return count;
}

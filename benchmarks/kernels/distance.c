/* Dynamic programming: the edit distance of two strings of n characters. */
#include "kernel.h"

uint32_t run(uint32_t n) {
    uint8_t *a = (uint8_t *)arena, *b = a + n;
    uint32_t *row = (uint32_t *)(arena + (2 * n + 7) / 8);
    uint32_t seed = 2024;
    for (uint32_t i = 0; i < n; i++) {
        a[i] = next_random(&seed) & 3;
        b[i] = next_random(&seed) & 3;
    }
    for (uint32_t j = 0; j <= n; j++) row[j] = j;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t diagonal = row[0];
        row[0] = i + 1;
        for (uint32_t j = 0; j < n; j++) {
            uint32_t change = diagonal + (a[i] != b[j]);
            uint32_t insertion = row[j] + 1;
            uint32_t deletion = row[j + 1] + 1;
            diagonal = row[j + 1];
            uint32_t best = insertion < deletion ? insertion : deletion;
            row[j + 1] = change < best ? change : best;
        }
    }
    return row[n];
}

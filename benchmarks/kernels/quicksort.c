/* Sorting: recursive quicksort of n random numbers, with insertion sort for short ranges. */
#include "kernel.h"

static void sort(uint32_t *first, uint32_t *last) {
    while (last - first > 12) {
        uint32_t a = *first, b = first[(last - first) / 2], c = last[-1];
        uint32_t pivot = a < b ? (b < c ? b : a < c ? c : a) : (a < c ? a : b < c ? c : b);
        uint32_t *left = first, *right = last - 1;
        while (left <= right) {
            while (*left < pivot) left++;
            while (*right > pivot) right--;
            if (left > right) break;
            uint32_t swap = *left;
            *left++ = *right;
            *right-- = swap;
        }
        sort(first, right + 1);
        first = left;
    }
    for (uint32_t *i = first + 1; i < last; i++) {
        uint32_t value = *i, *j = i;
        while (j > first && j[-1] > value) {
            *j = j[-1];
            j--;
        }
        *j = value;
    }
}

uint32_t run(uint32_t n) {
    uint32_t *numbers = (uint32_t *)arena;
    uint32_t seed = 4711, checksum = 0;
    for (uint32_t i = 0; i < n; i++) numbers[i] = next_random(&seed);
    sort(numbers, numbers + n);
    for (uint32_t i = 1; i < n; i++) {
        if (numbers[i - 1] > numbers[i]) return 0;
        checksum = checksum * 31 + numbers[i];
    }
    return checksum;
}

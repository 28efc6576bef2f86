/* Indirect calls: an interpreter of a small stack machine, one function per instruction. */
#include "kernel.h"

typedef struct Machine {
    uint32_t stack[16];
    uint32_t sp, pc, counter, result;
} Machine;

typedef void (*Instruction)(Machine *);

static void op_push(Machine *m) { m->stack[m->sp++ & 15] = m->pc; }
static void op_add(Machine *m) {
    uint32_t top = m->stack[--m->sp & 15];
    m->stack[(m->sp - 1) & 15] += top;
}
static void op_mix(Machine *m) {
    uint32_t *top = &m->stack[(m->sp - 1) & 15];
    *top = (*top << 7 | *top >> 25) ^ m->counter;
}
static void op_store(Machine *m) { m->result ^= m->stack[--m->sp & 15]; }
static void op_duplicate(Machine *m) {
    uint32_t top = m->stack[(m->sp - 1) & 15];
    m->stack[m->sp++ & 15] = top;
}
static void op_loop(Machine *m) {
    m->counter--;
    m->pc = 0;
}

static Instruction const operations[] = {
    op_push, op_add, op_mix, op_store, op_duplicate, op_loop,
};
static const uint8_t program[] = {0, 2, 4, 0, 1, 2, 1, 4, 2, 3, 3, 5};

uint32_t run(uint32_t n) {
    Machine *m = (Machine *)arena;
    for (int i = 0; i < 16; i++) m->stack[i] = 0;
    m->sp = m->pc = m->result = 0;
    m->counter = n;
    while (m->counter) operations[program[m->pc++]](m);
    return m->result;
}

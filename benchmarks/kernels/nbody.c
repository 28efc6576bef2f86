/* Float: n steps of five bodies under gravity, in doubles. Square root by Newton's method. */
#include "kernel.h"

#define BODIES 5

typedef struct {
    double x, y, z, vx, vy, vz, mass;
} Body;

static double inverse_root(double value) {
    double root = value < 1.0 ? 1.0 : value;
    for (int i = 0; i < 8; i++) root = 0.5 * (root + value / root);
    return 1.0 / root;
}

static void step(Body *bodies, double dt) {
    for (int i = 0; i < BODIES; i++) {
        for (int j = i + 1; j < BODIES; j++) {
            double dx = bodies[i].x - bodies[j].x;
            double dy = bodies[i].y - bodies[j].y;
            double dz = bodies[i].z - bodies[j].z;
            double inverse = inverse_root(dx * dx + dy * dy + dz * dz + 0.01);
            double magnitude = dt * inverse * inverse * inverse;
            bodies[i].vx -= dx * bodies[j].mass * magnitude;
            bodies[i].vy -= dy * bodies[j].mass * magnitude;
            bodies[i].vz -= dz * bodies[j].mass * magnitude;
            bodies[j].vx += dx * bodies[i].mass * magnitude;
            bodies[j].vy += dy * bodies[i].mass * magnitude;
            bodies[j].vz += dz * bodies[i].mass * magnitude;
        }
    }
    for (int i = 0; i < BODIES; i++) {
        bodies[i].x += dt * bodies[i].vx;
        bodies[i].y += dt * bodies[i].vy;
        bodies[i].z += dt * bodies[i].vz;
    }
}

uint32_t run(uint32_t n) {
    Body *bodies = (Body *)arena;
    uint32_t seed = 12345, checksum = 0;
    for (int i = 0; i < BODIES; i++) {
        bodies[i].x = next_random(&seed) * 0x1p-30 - 2.0;
        bodies[i].y = next_random(&seed) * 0x1p-30 - 2.0;
        bodies[i].z = next_random(&seed) * 0x1p-30 - 2.0;
        bodies[i].vx = bodies[i].vy = bodies[i].vz = 0.0;
        bodies[i].mass = 0.5 + next_random(&seed) * 0x1p-32;
    }
    for (uint32_t i = 0; i < n; i++) step(bodies, 0.001);
    for (int i = 0; i < BODIES; i++) checksum ^= fold(bodies[i].x + bodies[i].vy);
    return checksum;
}

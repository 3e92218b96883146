// What the cores can do at most, for shares of it: cc -O3 -march=native -pthread benchmarks/benches/peak.c -o /tmp/peak && /tmp/peak THREADS
//
// Fused multiply-adds on registers alone (GFLOP/s), and copying memory that no cache holds (GB/s read and written); the
// median of nine.

#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LANES = 16, CHAINS = 16, STEPS = 20000000, ROUNDS = 9 };
static const size_t BYTES = (size_t)256 << 20;
typedef float lanes __attribute__((vector_size(4 * LANES)));

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static void *multiply(void *out) {
    lanes sums[CHAINS], a = {0}, b = {0};
    a += 0.999f;
    b += 0.001f;
    for (int i = 0; i < CHAINS; i++) sums[i] = b * (float)i;
    for (int k = 0; k < STEPS; k++)
        for (int i = 0; i < CHAINS; i++) sums[i] = sums[i] * a + b;
    for (int i = 1; i < CHAINS; i++) sums[0] += sums[i];
    *(float *)out = sums[0][0];
    return NULL;
}

static void *copy(void *half) {
    memcpy(half, (char *)half + BYTES, BYTES);
    return NULL;
}

static double timed(void *(*work)(void *), void **args, int threads) {
    pthread_t all[64];
    double start = now();
    for (int i = 0; i < threads; i++) pthread_create(&all[i], NULL, work, args[i]);
    for (int i = 0; i < threads; i++) pthread_join(all[i], NULL);
    return now() - start;
}

static int order(const void *a, const void *b) {
    double d = *(const double *)a - *(const double *)b;
    return (d > 0) - (d < 0);
}

static double median(void *(*work)(void *), void **args, int threads) {
    double all[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) all[i] = timed(work, args, threads);
    qsort(all, ROUNDS, sizeof *all, order);
    return all[ROUNDS / 2];
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    if (threads < 1 || threads > 64) return 2;
    void *args[64];
    for (int i = 0; i < threads; i++) {
        args[i] = malloc(2 * BYTES);
        if (!args[i]) return 1;
        memset(args[i], 1, 2 * BYTES);
    }
    double flops = 2. * LANES * CHAINS * STEPS * threads / median(multiply, args, threads);
    double bytes = 2. * BYTES * threads / median(copy, args, threads);
    printf("%d threads: %.0f GFLOP/s, %.1f GB/s read and written\n", threads, flops * 1e-9, bytes * 1e-9);
    return 0;
}

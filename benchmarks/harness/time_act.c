/* Time of one action over the golden rows: nanoseconds on a PC, instructions on a Cortex-M in QEMU.
 * Compiled with -DTEST="NAME_test.c", -DACT=NAME_act and, for a policy with earlier frames,
 * -DSTATE=NAME_state and -DRESET=NAME_reset. CALLS is the number of actions. */
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <time.h>
#include TEST

#ifdef STATE
#define FRAMES &state,
#else
#define FRAMES
#endif

#ifdef __ARM_ARCH
/* The system timer counts down at the processor's clock, 24 bits. */
#define SYSTICK ((volatile uint32_t *)0xe000e010u)

static void start(void)
{
    SYSTICK[1] = 0xffffffu;
    SYSTICK[2] = 0;
    SYSTICK[0] = 5u;
}

static double now(void)
{
    return (double)(0xffffffu - SYSTICK[2]) / CLOCK * 1e9;
}
#else
static void start(void)
{
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}
#endif

int main(void)
{
    typedef __typeof__(actions[0]) row_type;
    __typeof__(actions[0][0]) action[sizeof(row_type) / sizeof(actions[0][0])];
    int32_t usable = 0;
#ifdef STATE
    STATE state;
    RESET(&state);
#endif
    start();
    double before = 0;
    for (int32_t call = -ROWS; call < CALLS; ++call) { /* the first rows warm the caches */
        if (call == 0) {
            before = now();
        }
        usable += ACT(FRAMES observations[(call + ROWS) % ROWS], action) ? 1 : 0;
    }
    const double passed = now() - before;
    printf("%.3f\n", usable == CALLS + ROWS ? passed / CALLS : -1.0);
    return 0;
}

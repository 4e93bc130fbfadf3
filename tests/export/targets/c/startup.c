/* From the reset of a Cortex-M to main, for tests in an emulator with semihosting. */
#include <stdint.h>
#include <stdlib.h>

extern uint32_t data_load[], data_start[], data_end[], bss_start[], bss_end[], stack_top[];
void initialise_monitor_handles(void);
int main(void);
void reset(void);

void _init(void) {}

void _fini(void) {}

static void fault(void)
{
    _Exit(2);
}

void reset(void)
{
#ifdef __ARM_FP
    *(volatile uint32_t *)0xe000ed88u |= 0xfu << 20; /* enable the FPU */
    __asm volatile("dsb\n\tisb");
#endif
    for (uint32_t *to = data_start, *from = data_load; to < data_end; ++to, ++from) {
        *to = *from;
    }
    for (uint32_t *to = bss_start; to < bss_end; ++to) {
        *to = 0;
    }
    initialise_monitor_handles();
    exit(main());
}

__attribute__((section(".vectors"), used)) static const void *const vectors[7] = {
    stack_top, (void *)reset, (void *)fault, (void *)fault, (void *)fault, (void *)fault, (void *)fault,
};

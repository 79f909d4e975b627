/*
 * Starts a program on a Cortex-M board: vectors, memory, floating-point unit.
 *
 * A stack for the program lies at the start of the RAM, so that one that is too deep leaves it and faults; handlers
 * have one of their own. An exception that nobody expects ends the program where a debugger or emulator listens.
 */
#include <stdint.h>

#include "board-semihosting.h"

extern uint32_t board_data_load[], board_data_start[], board_data_end[], board_bss_start[], board_bss_end[];
extern uint32_t board_stack_start[], board_stack_end[], board_handlers_stack_end[];

int main(void);
void board_reset(void);
void board_fault(void);
void board_tick(void);

__attribute__((weak, noreturn)) void board_fault(void) {
    host_exit(1);
}

__attribute__((weak)) void board_tick(void) {
}

/* The stack, reset, and the exceptions 2 to 15, of which the last is the system's timer. */
__attribute__((section(".vectors"), used)) static void (*const vectors[16])(void) = {
    (void (*)(void))board_handlers_stack_end,
    board_reset,
    board_fault, board_fault, board_fault, board_fault, board_fault, board_fault,
    board_fault, board_fault, board_fault, board_fault, board_fault, board_fault, board_fault,
    board_tick,
};

/* Loops that no compiler makes calls of. */
static void fill_memory(void) {
    const volatile uint32_t *from = board_data_load;
    for (volatile uint32_t *to = board_data_start; to < board_data_end; to++) *to = *from++;
    for (volatile uint32_t *to = board_bss_start; to < board_bss_end; to++) *to = 0;
}

static __attribute__((noreturn, used)) void run(void) {
    fill_memory();
    host_exit(main());
}

__attribute__((naked, noreturn)) void board_reset(void) {
    __asm__ volatile(
#ifdef __ARM_FP
        /* CPACR: coprocessors 10 and 11 for everybody */
        "ldr r0, =0xe000ed88\n"
        "ldr r1, [r0]\n"
        "ldr r2, =0x00f00000\n"
        "orr r1, r2\n"
        "str r1, [r0]\n"
        "dsb\n"
        "isb\n"
#endif
        "ldr r0, =board_stack_end\n"
        "msr psp, r0\n"
        "movs r0, #2\n"
        "msr control, r0\n"
        "isb\n"
        "bl run\n"
        ".ltorg\n");
}

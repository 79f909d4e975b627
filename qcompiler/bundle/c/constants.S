/* The network's constants, read-only and aligned for the widest vector load. */
    .section .rodata.@name@_constants, "a", %progbits
    .balign 64
    .globl @name@_internal_constants
    .hidden @name@_internal_constants
    .type @name@_internal_constants, %object
@name@_internal_constants:
    .incbin "constants.bin"
    .size @name@_internal_constants, . - @name@_internal_constants
    .section .note.GNU-stack, "", %progbits

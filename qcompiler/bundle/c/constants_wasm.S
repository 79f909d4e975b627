/* The network's constants, aligned for the widest vector load. */
    .section .rodata.@name@_constants, "", @
    .p2align 6
    .globl @name@_internal_constants
    .hidden @name@_internal_constants
    .type @name@_internal_constants, @object
@name@_internal_constants:
    .incbin "constants.bin"
    .size @name@_internal_constants, . - @name@_internal_constants

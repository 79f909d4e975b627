/* The network's constants, read-only and aligned for the widest vector load. */
    .section __TEXT,__const
    .p2align 6
    .globl _@name@_internal_constants
    .private_extern _@name@_internal_constants
_@name@_internal_constants:
    .incbin "constants.bin"
    .subsections_via_symbols

/* The weights, in a section of their own. */
    .section qc_constants, "a", %progbits
    .globl @name@_internal_constants
    .hidden @name@_internal_constants
    .globl @name@_internal_constants_end
    .hidden @name@_internal_constants_end
    .balign 64
@name@_internal_constants:
    .incbin "constants.bin"
@name@_internal_constants_end:
    .section .note.GNU-stack, "", %progbits

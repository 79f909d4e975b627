# Makes a program for an emulated board of the network @name@ and an example, and runs it.
#
#     make run                              on random inputs
#     make run CPU=@cpu@ INPUTS=image.bin   on files, one for each input
#
# CPU: @cpus@.
CPU ?= @cpu@
INPUTS ?=

@boards@

VARIANT = $(subst -,_,$(CPU))
COMPILER = arm-none-eabi-gcc
FLAGS = -std=c11 -O2 -mthumb -ffreestanding -Wall $(FLAGS_$(CPU))
LIBRARY = lib@name@_$(VARIANT).a
SCRIPT = @name@_$(VARIANT).ld
PROGRAM = @name@_$(VARIANT).elf
EMULATOR = qemu-system-arm $(MACHINE_$(CPU)) -display none -monitor none -serial none \
	-chardev stdio,id=console -semihosting-config enable=on,target=native,chardev=console

.PHONY: all run clean
all: $(PROGRAM)

$(PROGRAM): example.c startup.c board-semihosting.h @name@.h $(LIBRARY) $(SCRIPT)
	$(COMPILER) $(FLAGS) example.c startup.c $(LIBRARY) -nostartfiles -Wl,--gc-sections -T $(SCRIPT) @libraries@ -o $@

run: $(PROGRAM)
	@$(EMULATOR) -kernel $(PROGRAM) -append "$(INPUTS)"

clean:
	rm -f @name@_*.elf

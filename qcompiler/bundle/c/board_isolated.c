/*
 * Runs steps of the network @name@ on an emulated board for another process, in memory that both share through a file.
 *
 *     FILE GUARD PAGES SLACK ...
 *
 * As isolated.c, whose requests and answers these are. A board has no such memory: before a request the buffers are
 * copied from the file into RAM, and back behind it, in whole pages between guards of SPACE bytes, which must not
 * change. Where the core can protect memory, code that touches them faults, as do writes to the flash. Answers of its
 * own are "fault 0 OFFSET" and "wrote 0 OFFSET", with the address that was touched, or of a changed byte of a guard
 * or an input, as if there were GUARD bytes between buffers; "trap 0 TEXT" for other faults; and "late 0 " where time
 * is up, which is never where it says 0 seconds. A request of no threads is answered by the bytes of the stack that
 * runs have used.
 */
#include "board-semihosting.h"

#include "@name@.h"

enum { BUFFERS = @NAME@_INPUTS + @NAME@_OUTPUTS + 1, SPACE = 4096, LINE = 4096, PATTERN = 0xa5 };
enum { VARIANT, THREADS, FIRST, LAST, AT_START, SECONDS, FIELDS };

struct buffer {
    size_t pages, slack, offset;
    unsigned char *start;
};

extern unsigned char board_ram_start[], board_bss_end[], board_ram_end[], board_stack_start[];
extern const unsigned char board_flash_start[], board_flash_limit[];
static struct buffer buffers[BUFFERS];
static char line[LINE];
static size_t guard;
static intptr_t file, answers, requests;
static volatile uint32_t deadline;

static volatile uint32_t *const timer = (volatile uint32_t *)0xe000e010;
static const volatile uint32_t *const faults = (const volatile uint32_t *)0xe000ed28;

static char *put_text(char *at, const char *text) {
    for (; *text; text++) *at++ = *text == '\n' ? ' ' : *text;
    return at;
}

static char *put_number(char *at, long long number) {
    char digits[24];
    unsigned long long rest = number < 0 ? 0 - (unsigned long long)number : (unsigned long long)number;
    int count = 0;
    if (number < 0) *at++ = '-';
    do digits[count++] = (char)('0' + rest % 10);
    while (rest /= 10);
    while (count) *at++ = digits[--count];
    return at;
}

static char *put_hex(char *at, uint32_t number) {
    at = put_text(at, "0x");
    for (int shift = 28; shift >= 0; shift -= 4) *at++ = "0123456789abcdef"[number >> shift & 15];
    return at;
}

static void answer(const char *kind, long long number, const char *text) {
    static char said[LINE];
    size_t length = 0;
    while (text[length] && length < LINE / 2) length++;
    char *at = put_number(put_text(said, kind), number);
    *at++ = ' ';
    for (size_t i = 0; i < length; i++) *at++ = text[i] == '\n' ? ' ' : text[i];
    *at++ = '\n';
    host_transfer(HOST_WRITE, answers, said, (size_t)(at - said));
}

/* Where an address lies, as if there were `guard` bytes between buffers; -1 where none is near. */
static long long place(uintptr_t address) {
    size_t at = guard;
    for (int i = 0; i < BUFFERS; i++) {
        uintptr_t start = (uintptr_t)buffers[i].start, end = start + buffers[i].pages;
        if (address >= start - SPACE / 2 && address < end + SPACE / 2)
            return (long long)at + (long long)address - (long long)start;
        at += buffers[i].pages + guard;
    }
    return -1;
}

/* The address of an access that faulted is known where bit 7 or bit 15 of the first register is set. */
void board_fault(void) {
    char text[96], *at = put_hex(put_text(text, "fault "), faults[0]);
    uint32_t address = faults[0] & 0x80 ? faults[3] : faults[4];
    int known = (faults[0] & 0x8080) != 0;
    if (known) at = put_hex(put_text(at, " at "), address);
    *at = 0;
    if (known && place(address) >= 0) answer("fault 0 ", place(address), "");
    else answer("trap ", 0, text);
    host_exit(1);
}

void board_tick(void) {
    if (!deadline || host_time() < deadline) return;
    answer("late ", 0, "");
    host_exit(1);
}

/* A sign is passed over: there is one variant, whatever its number. */
static size_t number(const char **text) {
    size_t value = 0;
    while (**text == ' ' || **text == '-') ++*text;
    for (; **text >= '0' && **text <= '9'; ++*text) value = 10 * value + (size_t)(**text - '0');
    return value;
}

static int layout(const char *text) {
    unsigned char *next = (unsigned char *)(((uintptr_t)board_bss_end + SPACE - 1) / SPACE * SPACE) + SPACE;
    size_t offset = 0;
    guard = number(&text);
    for (int i = 0; i < BUFFERS; i++) {
        struct buffer *buffer = &buffers[i];
        buffer->pages = number(&text);
        buffer->slack = number(&text);
        buffer->offset = offset;
        buffer->start = next;
        offset += buffer->pages;
        if (buffer->pages + SPACE > (size_t)(board_ram_end - next)) return 0;
        next += buffer->pages + SPACE;
    }
    return 1;
}

/* Of all words of a buffer's pages, one that changes with any of them. */
static uint32_t sum(const struct buffer *buffer) {
    const uint32_t *word = (const uint32_t *)(const void *)buffer->start;
    uint32_t total = 0;
    for (size_t i = 0; i < buffer->pages / sizeof *word; i++) total = (total << 5 | total >> 27) + word[i];
    return total;
}

static void transfer(int request, struct buffer *buffer) {
    host_seek(file, buffer->offset);
    host_transfer(request, file, buffer->start, buffer->pages);
}

static void guard_all(void) {
    for (int i = 0; i < BUFFERS; i++) {
        unsigned char *end = buffers[i].start + buffers[i].pages;
        for (size_t b = 0; b < SPACE; b++) buffers[i].start[b - SPACE] = end[b] = PATTERN;
    }
}

/* Where the first byte of a guard has changed, as an address; 0 where none has. */
static long long touched_guard(void) {
    size_t address = guard;
    for (int i = 0; i < BUFFERS; i++) {
        const struct buffer *buffer = &buffers[i];
        for (size_t b = 0; b < SPACE; b++)
            if (buffer->start[(ptrdiff_t)b - SPACE] != PATTERN) return (long long)address + (long long)b - SPACE;
        address += buffer->pages;
        for (size_t b = 0; b < SPACE; b++)
            if (buffer->start[buffer->pages + b] != PATTERN) return (long long)(address + b);
        address += guard;
    }
    return 0;
}

/* How much of the stack runs have used: what no run has written still holds the pattern. */
static size_t deepest;

static inline volatile unsigned char *stack_pointer(void) {
    volatile unsigned char *pointer;
    __asm__ volatile("mov %0, sp" : "=r"(pointer));
    return pointer;
}

static void paint_stack(void) {
    for (volatile unsigned char *at = board_stack_start, *end = stack_pointer(); at < end; at++) *at = PATTERN;
}

static void measure_stack(void) {
    volatile unsigned char *at = board_stack_start, *end = stack_pointer();
    while (at < end && *at == PATTERN) at++;
    if ((size_t)(end - at) > deepest) deepest = (size_t)(end - at);
}

enum { READS, WRITES, NOTHING };

#ifdef __ARM_ARCH_6M__
static void protect(void) {
}

static void unprotect(void) {
}
#else
static volatile uint32_t *const mpu = (volatile uint32_t *)0xe000ed90;
enum { TYPE, CONTROL, NUMBER, BASE, SIZE, LIMIT = SIZE, ATTRIBUTES = 12 };

static int regions(void) {
    return (int)(mpu[TYPE] >> 8 & 0xff);
}

#if __ARM_ARCH >= 8
static void region(int number, const unsigned char *start, const unsigned char *end, int what) {
    mpu[NUMBER] = (uint32_t)number;
    mpu[BASE] = (uint32_t)(uintptr_t)start | (what == READS ? 3u << 1 : 1u << 1);
    mpu[LIMIT] = (((uint32_t)(uintptr_t)end - 1) & ~31u) | 1;
}

/* Nothing may be touched but the flash, the memory of this program, and the buffers, if there are enough regions. */
static void describe_memory(void) {
    int enough = BUFFERS + 2 <= regions();
    mpu[ATTRIBUTES] = 0xff;
    region(1, board_ram_start, enough ? buffers[0].start - SPACE : board_ram_end, WRITES);
    for (int i = 0; enough && i < BUFFERS; i++)
        region(2 + i, buffers[i].start, buffers[i].start + buffers[i].pages, i < @NAME@_INPUTS ? READS : WRITES);
    region(0, board_flash_start, board_flash_limit, READS);
}
#else
/* Of a power of two of bytes, at a multiple of them. */
static void region(int number, const unsigned char *start, const unsigned char *end, int what) {
    uint32_t access = what == READS ? 6 : what == WRITES ? 3 : 0;
    uint32_t bits = 31 - (uint32_t)__builtin_clz((uint32_t)(end - start));
    mpu[NUMBER] = (uint32_t)number;
    mpu[BASE] = (uint32_t)(uintptr_t)start;
    mpu[SIZE] = access << 24 | 3u << 16 | (bits - 1) << 1 | 1;
}

/* Nothing may be touched but the flash and the RAM, and of it no guard for which there is a region. */
static void describe_memory(void) {
    region(0, board_flash_start, board_flash_limit, READS);
    region(1, board_ram_start, board_ram_end, WRITES);
    for (int i = 0; i <= BUFFERS && i + 2 < regions(); i++) {
        unsigned char *end = i < BUFFERS ? buffers[i].start : buffers[i - 1].start + buffers[i - 1].pages + SPACE;
        region(2 + i, end - SPACE, end, NOTHING);
    }
}
#endif

static void protect(void) {
    if (!regions()) return;
    describe_memory();
    mpu[CONTROL] = 1;
    __asm__ volatile("dsb\n isb" ::: "memory");
}

static void unprotect(void) {
    if (!regions()) return;
    mpu[CONTROL] = 0;
    __asm__ volatile("dsb\n isb" ::: "memory");
}
#endif

static int run(const size_t *asked) {
    unsigned char *at[BUFFERS];
    for (int i = 0; i < BUFFERS; i++) at[i] = buffers[i].start + (asked[AT_START] ? 0 : buffers[i].slack);
    return @name@_run_steps((const void *const *)at, (void *const *)(at + @NAME@_INPUTS), at[BUFFERS - 1],
                            @NAME@_WORKSPACE_SIZE, (int)asked[FIRST], (int)asked[LAST]);
}

/* An answer for a run in which a byte changed that may not; 0 where none did. */
static int misdeed(const uint32_t *inputs) {
    size_t address = guard;
    for (int i = 0; i < @NAME@_INPUTS; i++) {
        if (sum(&buffers[i]) != inputs[i]) {
            answer("wrote 0 ", (long long)address, "");
            return 1;
        }
        address += buffers[i].pages + guard;
    }
    long long guarded = touched_guard();
    if (guarded) answer("wrote 0 ", guarded, "");
    return guarded != 0;
}

static void serve(const size_t *asked) {
    static uint32_t inputs[@NAME@_INPUTS];
    for (int i = 0; i < BUFFERS; i++) transfer(HOST_READ, &buffers[i]);
    for (int i = 0; i < @NAME@_INPUTS; i++) inputs[i] = sum(&buffers[i]);
    guard_all();
    deadline = asked[SECONDS] ? host_time() + (uint32_t)asked[SECONDS] : 0;
    if (deadline) paint_stack();
    protect();
    int status = run(asked);
    unprotect();
    if (deadline) measure_stack();
    deadline = 0;
    if (misdeed(inputs)) host_exit(1);
    for (int i = @NAME@_INPUTS; i < BUFFERS; i++) transfer(HOST_WRITE, &buffers[i]);
    const char *text = @name@_status_text(status);
    answer("status ", status, text ? text : "");
}

/* A line of the requests; 0 where they are over. */
static int next_line(void) {
    for (size_t length = 0; length < LINE - 1; length++) {
        if (host_transfer(HOST_READ, requests, &line[length], 1)) return 0;
        line[length + 1] = 0;
        if (line[length] == '\n') return 1;
    }
    return 0;
}

/* The name of the program, the file, and what follows. */
static const char *open_file(char *text) {
    char *path = text;
    while (*path && *path != ' ') path++;
    while (*path == ' ') path++;
    char *end = path;
    while (*end && *end != ' ') end++;
    if (!*end) host_exit(1);
    *end = 0;
    file = host_open(path, HOST_FOR_UPDATES);
    return end + 1;
}

int main(void) {
    size_t asked[FIELDS];
    answers = host_open("/dev/stdout", HOST_FOR_APPENDING);
    requests = host_open("/dev/stdin", HOST_FOR_READING);
    host_arguments(line, LINE);
    if (!layout(open_file(line)) || file < 0) return 1;
    /* the system's timer, as seldom as it can */
    timer[1] = 0xffffff;
    timer[2] = 0;
    timer[0] = 7;
    while (next_line()) {
        const char *text = line;
        for (int field = 0; field < FIELDS; field++) asked[field] = number(&text);
        if (asked[THREADS]) serve(asked);
        else answer("status ", (long long)deepest, "");
    }
    return 0;
}

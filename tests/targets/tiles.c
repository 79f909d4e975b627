/* What AMX instructions do, by Intel's manual, on sizes that were set; anything that would fault is a trap. */
#include <stdint.h>

enum { REGISTERS = 8, ROWS = 16, BYTES = 64 };

static struct tile {
    int rows, row_bytes;
    uint8_t data[ROWS][BYTES];
} tiles[REGISTERS];
static int configured;

static struct tile *used(int8_t number) {
    if (!configured || number < 0 || number >= REGISTERS || !tiles[number].rows) __builtin_trap();
    return &tiles[number];
}

static void clear(struct tile *tile) {
    for (int i = 0; i < ROWS * BYTES; i++) tile->data[0][i] = 0;
}

int ldtilecfg(const uint8_t *sizes) {
    if (sizes[0] != 1 || sizes[1]) __builtin_trap();
    for (int i = 2; i < 64; i++)
        if ((i < 16 || (i >= 32 && i < 48) || i >= 56) && sizes[i]) __builtin_trap();
    for (int i = 0; i < REGISTERS; i++) {
        tiles[i].row_bytes = sizes[16 + 2 * i] | sizes[17 + 2 * i] << 8;
        tiles[i].rows = sizes[48 + i];
        if (tiles[i].rows > ROWS || tiles[i].row_bytes > BYTES || !tiles[i].rows != !tiles[i].row_bytes) __builtin_trap();
        clear(&tiles[i]);
    }
    configured = 1;
    return 0;
}

int tilerelease(void) {
    configured = 0;
    return 0;
}

int tilezero(int8_t number) {
    clear(used(number));
    return 0;
}

int tileloadd64(int8_t number, const uint8_t *from, int64_t stride) {
    struct tile *tile = used(number);
    clear(tile);
    for (int row = 0; row < tile->rows; row++)
        for (int i = 0; i < tile->row_bytes; i++) tile->data[row][i] = from[row * stride + i];
    return 0;
}

int tilestored64(int8_t number, uint8_t *to, int64_t stride) {
    struct tile *tile = used(number);
    for (int row = 0; row < tile->rows; row++)
        for (int i = 0; i < tile->row_bytes; i++) to[row * stride + i] = tile->data[row][i];
    return 0;
}

/* Unsigned bytes of the second operand times signed bytes of the third. */
int tdpbusd(int8_t total, int8_t left, int8_t right) {
    struct tile *c = used(total), *a = used(left), *b = used(right);
    if (c->rows != a->rows || c->row_bytes != b->row_bytes || a->row_bytes != 4 * b->rows) __builtin_trap();
    if (total == left || total == right || left == right) __builtin_trap();
    for (int m = 0; m < c->rows; m++)
        for (int n = 0; n < c->row_bytes / 4; n++) {
            uint32_t sum = 0;
            for (int k = 0; k < a->row_bytes; k++)
                sum += (uint32_t)(a->data[m][k] * (int8_t)b->data[k / 4][4 * n + k % 4]);
            *(uint32_t *)&c->data[m][4 * n] += sum;
        }
    return 0;
}

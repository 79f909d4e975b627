#include "shim.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

enum { WARP = 32, MOST_THAT_MEET = 128, STACK = 64 * 1024, SHARED = 256 * 1024, GUARD = 64, GARBAGE = 0xA5, MARK = 0x5A, MOST_ROWS = 65535 };

struct shim_index threadIdx, blockIdx;
alignas(64) int qc_shared[(SHARED + GUARD) / sizeof(int)];

namespace {

struct copy {
    void *to;
    const void *from;
    int bytes, given;
};

/* The first threads run ahead of the others, in one of three orders; or all take turns, in another order each time. */
enum kind { ASCENDING, DESCENDING, ANYHOW, TURNS, KINDS };

enum state { READY, AT_BARRIER, IN_WARP, DONE };

struct fiber {
    std::vector<unsigned char> stack;
    ucontext_t context;
    jmp_buf at;
    bool begun = false;
    state now = DONE;
    const char *what = nullptr;
    void *given = nullptr;
    std::vector<copy> open;
    /* where copies have arrived that only the thread itself can count on to see */
    std::vector<const unsigned char *> hidden;
    std::deque<std::vector<copy>> groups;
};

std::deque<fiber> fibers;
void (*running)(const void *);
const void *given_to_all;
jmp_buf scheduler;
unsigned current, count;
bool late;
unsigned launches, started_at;

[[noreturn]] void die(const char *what) {
    printf("trap 0 block %u, thread %u: %s\n", blockIdx.x, current, what);
    fflush(stdout);
    _exit(1);
}

/* From a thread back to the scheduler, until the scheduler comes back. */
__attribute__((noinline)) void leave() {
    if (!_setjmp(fibers[current].at)) _longjmp(scheduler, 1);
}

void arrive(const copy &each) {
    fibers[current].hidden.push_back((const unsigned char *)each.to);
    memcpy(each.to, each.from, (size_t)each.given);
    memset((unsigned char *)each.to + each.given, 0, (size_t)(each.bytes - each.given));
}

void arrive_all_but(size_t left) {
    fiber &self = fibers[current];
    while (self.groups.size() > left) {
        for (const copy &each : self.groups.front()) arrive(each);
        self.groups.pop_front();
    }
}

/* A fiber is a thread of one block after the other. */
void life() {
    for (;;) {
        running(given_to_all);
        fibers[current].open.clear();
        arrive_all_but(0);
        fibers[current].hidden.clear();
        fibers[current].now = DONE;
        leave();
    }
}

__attribute__((noinline)) void go_on(unsigned thread) {
    fiber &next = fibers[thread];
    current = thread;
    threadIdx = {thread, 0, 0};
    if (_setjmp(scheduler)) return;
    if (next.begun) _longjmp(next.at, 1);
    next.begun = true;
    next.stack.resize(STACK);
    getcontext(&next.context);
    next.context.uc_stack.ss_sp = next.stack.data();
    next.context.uc_stack.ss_size = STACK;
    next.context.uc_link = nullptr;
    makecontext(&next.context, life, 0);
    setcontext(&next.context);
}

/* Whether any thread of the block is left; those that all wait at the barrier go on. */
bool any_left() {
    unsigned waiting = 0, ready = 0, done = 0;
    for (unsigned i = 0; i < count; i++) {
        waiting += fibers[i].now == AT_BARRIER;
        ready += fibers[i].now == READY;
        done += fibers[i].now == DONE;
    }
    if (done == count) return false;
    if (ready) return true;
    if (waiting + done < count) die("waits for threads of its warp that do not come");
    for (unsigned i = 0; i < count; i++)
        if (fibers[i].now == AT_BARRIER) fibers[i].now = READY;
    return true;
}

void start_copy(const copy &each) {
    if (each.given && each.given != each.bytes) die("copies a part of its bytes");
    if ((uintptr_t)each.to % (uintptr_t)each.bytes || (each.given && (uintptr_t)each.from % (uintptr_t)each.bytes))
        die("copies from or to an address that is not aligned");
    if (late) fibers[current].open.push_back(each);
    else arrive(each);
}

void put_in_order(std::vector<unsigned> &order, unsigned kind, std::mt19937 &random) {
    std::iota(order.begin(), order.end(), 0u);
    if (kind == DESCENDING) std::reverse(order.begin(), order.end());
    if (kind == ANYHOW || kind == TURNS) std::shuffle(order.begin(), order.end(), random);
}

/* The first threads that can go on do so, as far as they get, before the others start. */
void go_ahead(const std::vector<unsigned> &order) {
    for (size_t next = 0; next < order.size();) {
        if (fibers[order[next]].now != READY) {
            next++;
            continue;
        }
        go_on(order[next]);
        next = 0;
    }
}

}  // namespace

#define SHIM_EXPORT extern "C" __attribute__((visibility("default")))

SHIM_EXPORT void shim_order(unsigned number) {
    launches = started_at = number;
}

SHIM_EXPORT unsigned shim_launched() {
    return launches - started_at;
}

struct shim_graph {
    std::vector<std::function<void()>> works;
};

namespace {

enum { CAPTURED = 900 };

std::string failing;
int failure, left;
int capability[2], any = 1;
std::map<const void *, std::pair<int, int>> places;
shim_graph *recording;
size_t room;

}  // namespace

SHIM_EXPORT void shim_fail(const char *call, int error) {
    failing = call ? call : "";
    failure = error;
}

SHIM_EXPORT int shim_left() {
    return left;
}

SHIM_EXPORT void shim_capability(int major, int minor) {
    any = 0;
    capability[0] = major;
    capability[1] = minor;
}

SHIM_EXPORT void shim_place(const void *pointer, int type, int device) {
    places[pointer] = {type, device};
}

SHIM_EXPORT void shim_room(size_t bytes) {
    room = bytes;
}

int shim_lacks(size_t bytes, int error) {
    bool lacks = room && bytes > room;
    if (lacks) left = error;
    return lacks;
}

int shim_answer(const char *call, int forbidden) {
    int error = failing == call ? failure : forbidden && recording ? CAPTURED : 0;
    if (error) left = error;
    return error;
}

int shim_forget() {
    int error = failing == "launch" ? failure : left;
    left = 0;
    return error;
}

int shim_is_any() {
    return any;
}

int shim_capability_of(int minor) {
    return capability[minor];
}

void shim_place_of(const void *pointer, int *type, int *device) {
    auto found = places.find(pointer);
    *device = 0;
    if (found == places.end()) return;
    *type = found->second.first;
    *device = found->second.second;
}

void shim_do(const std::function<void()> &work) {
    if (recording) recording->works.push_back(work);
    else work();
}

void shim_record() {
    recording = new shim_graph;
}

shim_graph *shim_recorded() {
    return std::exchange(recording, nullptr);
}

shim_graph *shim_copy(const shim_graph *graph) {
    return new shim_graph(*graph);
}

void shim_replay(const shim_graph *graph) {
    for (const auto &work : graph->works) work();
}

void shim_discard(shim_graph *graph) {
    delete graph;
}

void shim_run(unsigned blocks, unsigned rows, unsigned threads, size_t shared, void (*kernel)(const void *),
              const void *given) {
    std::mt19937 random(launches);
    unsigned kind = launches % KINDS;
    late = launches++ / KINDS % 2;
    if (shared > SHARED || threads > 1024 || !threads || !blocks || !rows || rows > MOST_ROWS) die("launches what no device can run");
    while (fibers.size() < threads) fibers.emplace_back();
    running = kernel;
    given_to_all = given;
    count = threads;
    std::vector<unsigned> turn((size_t)blocks * rows), order(threads);
    put_in_order(turn, kind, random);
    put_in_order(order, kind, random);
    for (unsigned block : turn) {
        blockIdx = {block % blocks, block / blocks, 0};
        unsigned char *end = (unsigned char *)qc_shared + shared;
        memset(qc_shared, GARBAGE, shared);
        memset(end, MARK, GUARD);
        for (unsigned i = 0; i < threads; i++) fibers[i].now = READY;
        do {
            if (kind == TURNS) {
                std::shuffle(order.begin(), order.end(), random);
                for (unsigned thread : order)
                    if (fibers[thread].now == READY) go_on(thread);
            } else {
                go_ahead(order);
            }
        } while (any_left());
        for (size_t i = 0; i < GUARD; i++)
            if (end[i] != MARK) die("the block wrote beyond its memory");
    }
}

void shim_meet(const char *what, void *mine, void (*act)(void **lanes), unsigned threads) {
    unsigned first = current / threads * threads, arrived = 1;
    void *lanes[MOST_THAT_MEET];
    if (first + threads > count) die("is of a warp that is not whole");
    fibers[current].what = what;
    fibers[current].given = mine;
    for (unsigned i = 0; i < threads; i++) {
        fiber &other = fibers[first + i];
        lanes[i] = other.given;
        if (first + i == current) continue;
        if (other.now == DONE) die("waits for threads of its warp that are gone");
        if (other.now == IN_WARP && strcmp(other.what, what)) die("meets others of its warp in another instruction");
        arrived += other.now == IN_WARP;
    }
    if (arrived < threads) {
        fibers[current].now = IN_WARP;
        leave();
        return;
    }
    act(lanes);
    for (unsigned i = 0; i < threads; i++) fibers[first + i].now = READY;
}

void qc_barrier() {
    fibers[current].now = AT_BARRIER;
    leave();
}

namespace {

struct vote {
    int condition;
    uint32_t all;
};

void cast(void **lanes) {
    uint32_t all = 0;
    for (unsigned i = 0; i < WARP; i++) all |= (uint32_t)(((vote *)lanes[i])->condition != 0) << i;
    for (unsigned i = 0; i < WARP; i++) ((vote *)lanes[i])->all = all;
}

struct swap {
    int value, mask, found;
};

void exchange(void **lanes) {
    for (unsigned i = 0; i < WARP; i++) {
        swap *mine = (swap *)lanes[i];
        mine->found = ((swap *)lanes[i ^ (unsigned)mine->mask])->value;
    }
}

/* of four bytes, of any type */
struct taking {
    uint32_t value;
    int lane;
    uint32_t found;
};

void take(void **lanes) {
    for (unsigned i = 0; i < WARP; i++) {
        taking *mine = (taking *)lanes[i];
        mine->found = ((taking *)lanes[(unsigned)mine->lane % WARP])->value;
    }
}

template <typename T> T taken(T value, int lane) {
    taking mine = {0, lane, 0};
    memcpy(&mine.value, &value, sizeof value);
    shim_meet("taking", &mine, take);
    memcpy(&value, &mine.found, sizeof value);
    return value;
}

struct product {
    int *d;
    const uint32_t *a, *b;
};

/* Where the PTX manual puts word `k` of row `i` of a, of column `j` of b, and element (i, j) of d. */
template <typename F> void multiply(void **lanes, F words) {
    product *of[WARP];
    for (unsigned i = 0; i < WARP; i++) of[i] = (product *)lanes[i];
    for (unsigned i = 0; i < 16; i++)
        for (unsigned j = 0; j < 8; j++) {
            uint32_t sum = 0;
            for (unsigned k = 0; k < 8; k++) {
                uint32_t a = of[i % 8 * 4 + k % 4]->a[k / 4 * 2 + i / 8];
                sum += words(a, of[j * 4 + k % 4]->b[k / 4]);
            }
            int *d = &of[i % 8 * 4 + j / 2]->d[i / 8 * 2 + j % 2];
            *d = (int)((uint32_t)*d + sum);
        }
}

void multiply_bits(void **lanes) {
    multiply(lanes, [](uint32_t a, uint32_t b) { return (uint32_t)__builtin_popcount(a & b); });
}

void compare_bits(void **lanes) {
    multiply(lanes, [](uint32_t a, uint32_t b) { return (uint32_t)__builtin_popcount(a ^ b); });
}

struct wide_product {
    int *d;
    const uint32_t *a;
    const unsigned char *b;
};

enum { WIDE = 64, NEXT_WORDS = 128, NEXT_COLUMNS = 256 };

/* Bits of four warps, each with 16 rows of a and d as above. */
void multiply_together(void **lanes) {
    wide_product *of[4 * WARP];
    for (unsigned i = 0; i < 4 * WARP; i++) of[i] = (wide_product *)lanes[i];
    const unsigned char *b = of[0]->b;
    for (unsigned i = 0; i < 4 * WARP; i++)
        if (of[i]->b != b) die("is given different weights by threads that multiply together");
    if ((uintptr_t)b % 16) die("reads weights from an address that is not aligned");
    for (unsigned i = 0; i < count; i++)
        for (const unsigned char *place : fibers[i].hidden)
            if (place >= b && place < b + WIDE / 8 * NEXT_COLUMNS) die("reads copies that only their threads can see");
    for (unsigned i = 0; i < 64; i++)
        for (unsigned j = 0; j < WIDE; j++) {
            wide_product **warp = of + i / 16 * WARP;
            unsigned row = i % 16, sum = 0;
            for (unsigned k = 0; k < 8; k++) {
                uint32_t word;
                memcpy(&word, b + k / 4 * NEXT_WORDS + j / 8 * NEXT_COLUMNS + j % 8 * 16 + k % 4 * 4, sizeof word);
                sum += (unsigned)__builtin_popcount(warp[row % 8 * 4 + k % 4]->a[k / 4 * 2 + row / 8] & word);
            }
            warp[row % 8 * 4 + j % 8 / 2]->d[j / 8 * 4 + row / 8 * 2 + j % 2] += (int)sum;
        }
}

void multiply_nibbles(void **lanes) {
    multiply(lanes, [](uint32_t a, uint32_t b) {
        uint32_t sum = 0;
        for (int half = 0; half < 32; half += 4) sum += (a >> half & 15) * (b >> half & 15);
        return sum;
    });
}

void multiply_bytes(void **lanes) {
    multiply(lanes, [](uint32_t a, uint32_t b) { return __dp4a(a, b, 0); });
}

}  // namespace

uint32_t qc_ballot(int condition) {
    vote mine = {condition, 0};
    shim_meet("ballot", &mine, cast);
    return mine.all;
}

int qc_exchange(int value, int mask) {
    swap mine = {value, mask, 0};
    shim_meet("exchange", &mine, exchange);
    return mine.found;
}

int qc_from_int32(int value, int lane) {
    return taken(value, lane);
}

float qc_from_float32(float value, int lane) {
    return taken(value, lane);
}

void qc_and_16x8x256(int *d, const uint32_t *a, const uint32_t *b) {
    product mine = {d, a, b};
    shim_meet("and of bits", &mine, multiply_bits);
}

void qc_and_64x64x256(int *d, const uint32_t *a, const void *b) {
    wide_product mine = {d, a, (const unsigned char *)b};
    shim_meet("and of bits by four warps", &mine, multiply_together, 4 * WARP);
}

void qc_shown() { fibers[current].hidden.clear(); }

void qc_xor_16x8x256(int *d, const uint32_t *a, const uint32_t *b) {
    product mine = {d, a, b};
    shim_meet("xor of bits", &mine, compare_bits);
}

void qc_nibbles_16x8x64(int *d, const uint32_t *a, const uint32_t *b) {
    product mine = {d, a, b};
    shim_meet("product of halves of bytes", &mine, multiply_nibbles);
}

void qc_bytes_16x8x32(int *d, const uint32_t *a, const uint32_t *b) {
    product mine = {d, a, b};
    shim_meet("product of bytes", &mine, multiply_bytes);
}

void qc_copy_4(void *to, const void *from, int given) { start_copy({to, from, 4, given}); }
void qc_copy_8(void *to, const void *from, int given) { start_copy({to, from, 8, given}); }
void qc_copy_16(void *to, const void *from, int given) { start_copy({to, from, 16, given}); }

void qc_commit() {
    fibers[current].groups.push_back(std::move(fibers[current].open));
    fibers[current].open.clear();
}

void qc_wait_0() { arrive_all_but(0); }
void qc_wait_1() { arrive_all_but(1); }

"""Runs a function of a library for iOS on emulated 64-bit ARM with Linux: what a loader of Apple's does is done here.

Code for both systems takes pointers and integers in the same registers. Segments lie in the file as in memory, so the
file is put anywhere as it is; pointers in it are moved, and those to Apple's C library lead to that of Linux.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

_MAIN = """
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static uint64_t guard;
static int asked;

/* Apple's system call for facts about the processor: all of them are as the command says. */
static int sysctlbyname(const char *name, void *value, size_t *size, void *changed, size_t changed_size) {
    (void)name, (void)changed, (void)changed_size;
    memcpy(value, &asked, *size);
    return 0;
}

static void bzero_(void *at, size_t size) { memset(at, 0, size); }

static void missing(void) { abort(); }

static const struct { const char *name; void *is; } known[] = {
    {"malloc", malloc}, {"free", free}, {"memcpy", memcpy}, {"memset", memset}, {"bzero", bzero_},
    {"sysctlbyname", sysctlbyname}, {"__stack_chk_guard", &guard}, {"__stack_chk_fail", missing},
    {"dyld_stub_binder", missing},
};
static const uint64_t moved[] = {MOVED};
static const struct { uint64_t at; const char *name; } bound[] = {BOUND};

int main(int count, char **words) {
    FILE *file = fopen(words[1], "rb");
    unsigned char *image = mmap(NULL, BYTES, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (count != 5 || !file || image == MAP_FAILED || !fread(image, 1, BYTES, file)) return 2;
    asked = atoi(words[2]);
    for (size_t i = 0; i < sizeof moved / sizeof *moved; i++) *(uint64_t *)(image + moved[i]) += (uintptr_t)image;
    for (size_t i = 0; i < sizeof bound / sizeof *bound; i++) {
        void *found = NULL;
        for (size_t k = 0; k < sizeof known / sizeof *known; k++)
            if (!strcmp(known[k].name, bound[i].name)) found = known[k].is;
        if (!found) return 3;
        *(void **)(image + bound[i].at) = found;
    }
    unsigned char *given = malloc(atoi(words[3]));
    float *scores = malloc(atoi(words[4]));
    if (!fread(given, atoi(words[3]), 1, stdin)) return 4;
    int status = ((int (*)(const unsigned char *, float *))(image + ENTRY))(given, scores);
    fwrite(scores, atoi(words[4]), 1, stdout);
    return status;
}
"""
_SEGMENT = re.compile(r"segname (\w+)\s+vmaddr (\w+)\s+vmsize (\w+)\s+fileoff (\d+)")
_MOVED = re.compile(r"^\w+ +\w+ +(0x[0-9A-F]+) +pointer$", re.MULTILINE)
_BOUND = re.compile(r"^\w+ +\w+ +(0x[0-9A-F]+)(?: pointer +0)? +flat-namespace +_?(\w+)$", re.MULTILINE)


def run(library: Path, function: str, given: bytes, result_bytes: int, *, features: bool) -> bytes:
    """What `function(given, result)` stores; features: whether the processor says that it has what it is asked for."""
    headers = _printed("llvm-objdump", "--macho", "--private-headers", library)
    segments = [(int(at, 16), int(size, 16), int(offset)) for _, at, size, offset in _SEGMENT.findall(headers)]
    assert segments and all(at == offset for at, _, offset in segments)
    fixed = _printed("llvm-objdump", "--macho", "--rebase", "--bind", "--lazy-bind", library)
    bound = dict(_BOUND.findall(fixed))
    (entry,) = re.findall(rf"^(\w+) T _{function}$", _printed("llvm-nm", library), re.MULTILINE)
    facts = {
        "MOVED": ", ".join(place for place in _MOVED.findall(fixed) if place not in bound),
        "BOUND": ", ".join(f'{{{place}, "{name}"}}' for place, name in bound.items()),
        "BYTES": str(max(at + size for at, size, _ in segments)),
        "ENTRY": f"0x{entry}",
    }
    source = library.with_name("loader.c")
    source.write_text(re.sub(r"\b(MOVED|BOUND|BYTES|ENTRY)\b", lambda match: facts[match[1]], _MAIN))
    program = library.with_name("loader")
    subprocess.run(["aarch64-linux-gnu-gcc", "-O1", "-static", "-o", program, source], check=True)
    command = ["qemu-aarch64", program, library, str(int(features)), str(len(given)), str(result_bytes)]
    return subprocess.run(command, input=given, capture_output=True, check=True).stdout


def _printed(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout

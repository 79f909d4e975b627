"""A hand-made network with kernels in C, so that the bundle is tested without any compiler of ours.

features [1, C, H, W], bias [C]  ->  bits = binarize(features)               (workspace, packed, with halo)
                                     scaled = features * scale[c] + bias[c]  (workspace, dense)
                                     scores[c] = sum of scaled + number of set bits of channel c
                                     count = number of set bits
"""

from __future__ import annotations

import functools
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qcompiler.ir.program import Argument, Call, Fault, Items, Program, StepInfo, StoredValue, TensorInfo, VariantCode

C, H, W, GROUPS = 40, 3, 5, 2
PIXELS = H * W
BITS_BYTES = (H + 2) * (W + 2) * GROUPS * 4
BITS_AT = 0
SCALED_AT = -(-BITS_BYTES // 64) * 64
WORKSPACE = SCALED_AT + C * PIXELS * 4
SCALE_AT = 64
SCALE = np.linspace(-2, 2, C).astype(np.float32)
REPORTS = {"report.json": b'{"rows": [1]}', "report.txt": b"a table\n"}

BITS = StoredValue(
    "bits/x", Argument("workspace", BITS_AT), (1, C, H, W), "bit-nhwc", "float32", halo=(1, 1, 1, 1), groups=GROUPS
)
SCALED = StoredValue("scaled", Argument("workspace", SCALED_AT), (1, C, H, W), "dense", "float32")
SCORES = StoredValue("scores/out:0", Argument("output", 0), (1, C), "dense", "float32")

KERNELS = f"""
#include <stdint.h>
#include <math.h>
#define HELPED __attribute__((noinline))

HELPED int popcount_of(uint32_t word) {{ return __builtin_popcount(word); }}

int32_t binarize(const float *x_, uint32_t *bits, int32_t begin, int32_t end) {{
    const float *x = __builtin_assume_aligned(x_, 64);
    for (int row = begin; row < end; row++)
        for (int column = 0; column < {W + 2}; column++)
            for (int group = 0; group < {GROUPS}; group++) {{
                uint32_t word = 0;
                int y = row - 1, z = column - 1;
                if (y >= 0 && y < {H} && z >= 0 && z < {W})
                    for (int c = 0; c < {C // GROUPS}; c++)
                        word |= (uint32_t)(x[((group * {C // GROUPS} + c) * {H} + y) * {W} + z] >= 0) << c;
                bits[(row * {W + 2} + column) * {GROUPS} + group] = word;
            }}
    return 0;
}}

int32_t scale(const float *x_, const float *bias_, const float *scale_, float *out_, int32_t begin, int32_t end) {{
    const float *x = __builtin_assume_aligned(x_, 64), *bias = __builtin_assume_aligned(bias_, 64);
    const float *scale = __builtin_assume_aligned(scale_, 64);
    float *out = __builtin_assume_aligned(out_, 64);
    for (int c = begin; c < end; c++)
        for (int p = 0; p < {PIXELS}; p++) out[c * {PIXELS} + p] = x[c * {PIXELS} + p] * scale[c] + bias[c];
    return 0;
}}

int32_t score(const float *scaled, const uint32_t *bits, float *out, int32_t begin, int32_t end) {{
    for (int c = begin; c < end; c++) {{
        float sum = 0;
        for (int p = 0; p < {PIXELS}; p++) sum += scaled[c * {PIXELS} + p];
        for (int word = c / {C // GROUPS}; word < {(H + 2) * (W + 2) * GROUPS}; word += {GROUPS})
            sum += (float)(bits[word] >> c % {C // GROUPS} & 1);
        out[c] = fmaf(1.0f, sum, 0.0f);
    }}
    return 0;
}}

int32_t count(const uint32_t *bits, int64_t *out, int32_t begin, int32_t end) {{
    (void)begin; (void)end;
    *out = 0;
    for (int i = 0; i < {(H + 2) * (W + 2) * GROUPS}; i++) *out += popcount_of(bits[i]);
    return 0;
}}
"""

FAILING = "#include <stdint.h>\nint32_t fail(const float *x, int32_t begin, int32_t end) { return x[0] > 0; }\n"


@functools.cache
def compiled(source: str, *flags: str) -> bytes:
    """The relocatable object of a C source."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernels.c")
        path.write_text(source)
        command = ["cc", "-O2", "-fPIC", "-ffp-contract=off", *flags, "-c", str(path), "-o", f"{path}.o"]
        subprocess.run(command, check=True, timeout=60)
        return Path(f"{path}.o").read_bytes()


def _calls() -> tuple[Call, ...]:
    features, bias = Argument("input", 0), Argument("input", 1)
    bits, scaled = Argument("workspace", BITS_AT), Argument("workspace", SCALED_AT)
    scores, count, scale = Argument("output", 0), Argument("output", 1), Argument("constant", SCALE_AT)
    return (
        Call("binarize", "binarize_c", (features, bits), Items(H + 2)),
        Call("scale", "scale_c", (features, bias, scale, scaled), Items(C)),
        Call("score", "score_c", (scaled, bits, scores), Items(C)),
        Call("count", "count_c", (bits, count), Items(1)),
    )


def variant(name: str, features: Sequence[str], *flags: str) -> VariantCode:
    """The four kernels compiled with `flags`, as one variant."""
    return VariantCode(name, tuple(features), (compiled(KERNELS, *flags),), _calls())


def tiny(name: str = "tiny", variants: Sequence[VariantCode] = ()) -> Program:
    """The network of this module; by default with an AVX2 and a plain variant that use the same symbols."""
    return Program(
        name=name,
        target="x86",
        inputs=(TensorInfo("features/x:0", (1, C, H, W), "float32"), TensorInfo("bias", (C,), "float32")),
        outputs=(TensorInfo("scores/out:0", (1, C), "float32"), TensorInfo("count", (1,), "int64")),
        workspace_bytes=WORKSPACE,
        constants=bytes(SCALE_AT) + SCALE.tobytes(),
        steps=(
            StepInfo(("/sign", "/pack"), "Binarize", 0, 1, 0, BITS_BYTES, values=(BITS,)),
            StepInfo(("/scale",), "Mul", 32, 32, C * PIXELS, C * PIXELS * 4, values=(SCALED,)),
            StepInfo(('/score "quoted" */ ??/',), "ReduceSum", 32, 32, 0, C * 4, note="float", values=(SCORES,)),
            StepInfo(("/count",), "BitCount", 0, 1, 0, 8),
        ),
        variants=tuple(variants) or (variant("avx2", ("avx2", "popcnt"), "-mavx2", "-mpopcnt"), variant("plain", ())),
    )


CLASSIFY = """
#include <stdint.h>
int32_t classify(const float *image, float *scores, int32_t begin, int32_t end) {
    for (int c = begin; c < end; c++) scores[c] = image[c] * 2;
    return 0;
}
"""


def impossible() -> Program:
    """A network for a CPU that does not exist: XOP ended before AVX-512 began."""
    return tiny("tiny", [variant("all", ("avx512f", "xop"))])


def digits() -> Program:
    """The network of docs/c_api.md: ten scores for an image."""
    call = Call("classify", "classify_c", (Argument("input", 0), Argument("output", 0)), Items(10))
    return Program(
        name="digits",
        target="x86",
        inputs=(TensorInfo("image", (1, 1, 28, 28), "float32"),),
        outputs=(TensorInfo("scores", (1, 10), "float32"),),
        workspace_bytes=0,
        constants=b"",
        steps=(StepInfo(("/fc",), "MatMul", 1, 32, 7840, 40),),
        variants=(VariantCode("baseline", (), (compiled(CLASSIFY),), (call,)),),
    )


def failing() -> Program:
    """A network whose kernel reports failure where the first feature is positive."""
    call = Call("fail", "fail_c", (Argument("input", 0),), Items(8))
    base = tiny("failing", [VariantCode("plain", (), (compiled(FAILING),), (call,))])
    return replace(base, steps=base.steps[:1])


FAULTY = """
#include <stdint.h>
int32_t pass(const float *x, int64_t *out, int32_t begin, int32_t end) {
    (void)x; (void)begin; (void)end;
    *out += 1;
    return 0;
}
int32_t gather(const float *x, int32_t *fault, int32_t begin, int32_t end) {
    for (int32_t i = begin; i < end; i++)
        if (x[i] != 0) *fault = (int32_t)x[i];
    return x[8] != 0;
}
"""


def faulty() -> Program:
    """Three steps: count += 1, one of eight items that takes its first features for faults, count += 1.

    The ninth feature makes the second step fail by itself.
    """
    features, count = Argument("input", 0), Argument("output", 1)
    once, gather = (
        Call("pass", "pass_c", (features, count), Items(1)),
        Call("gather", "gather_c", (features, Argument("fault", 0)), Items(8)),
    )
    base = tiny("faulty", [VariantCode("plain", (), (compiled(FAULTY),), (once, gather, once))])
    faults = (Fault.INDEX, Fault.DIVISION)
    named = replace(base.steps[0], nodes=('/emb"x"',), op="Gather", values=(), faults=faults)
    return replace(base, steps=(replace(named, faults=()), named, replace(named, faults=())))


def inputs(seed: int = 0) -> dict[str, npt.NDArray[np.float32]]:
    """Random inputs by ONNX name."""
    random = np.random.default_rng(seed)
    return {
        "features/x:0": random.integers(-8, 8, (1, C, H, W)).astype(np.float32),
        "bias": random.integers(-8, 8, C).astype(np.float32),
    }


def expected(given: dict[str, npt.NDArray[np.float32]]) -> dict[str, npt.NDArray[np.generic]]:
    """What the network computes, in numpy, with the kernels' order of summation."""
    x = given["features/x:0"]
    bits = x >= 0
    scaled = (x * SCALE[:, None, None] + given["bias"][:, None, None]).reshape(C, PIXELS)
    total = np.zeros(C, np.float32)
    for pixel in range(PIXELS):
        total += scaled[:, pixel]
    for pixel in range(PIXELS):
        total += bits.reshape(C, PIXELS)[:, pixel]
    return {"scores/out:0": total[None], "count": np.array([bits.sum()], np.int64)}

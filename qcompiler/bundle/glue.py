"""The C sources of one network: fixed files from c/, and tables generated from the program."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources

from qcompiler.bundle.contract import ALIGNMENT
from qcompiler.bundle.manifest import DTYPES, MAX_NAME, tensor_bytes
from qcompiler.errors import QCompilerError
from qcompiler.ir.pixels import Pixels, size_of
from qcompiler.ir.program import FAULT_TEXTS, Argument, Call, Program, TensorInfo, VariantCode
from qcompiler.targets import architecture as architectures

C_TYPES = {
    **{name: f"{name}_t" for name in DTYPES if "int" in name},
    "bool": "uint8_t",
    "float16": "uint16_t (IEEE half)",
    "float32": "float",
    "float64": "double",
}

_EXAMPLE = {
    "linked": "-static example.c lib@name@.a -lm",
    "workspace": "    void *workspace = take(&next, @NAME@_WORKSPACE_SIZE);",
}
_DEVICE_EXAMPLE = {
    "linked": "example.c lib@name@.so -Wl,-rpath,.",
    "workspace": """\
    void *workspace = NULL;
    int allocated = @name@_allocate(@NAME@_WORKSPACE_SIZE, &workspace);
    if (allocated != @NAME@_OK) {
        fprintf(stderr, "error: %s\\n", @name@_status_text(allocated));
        return 1;
    }""",
}


_CONSTANTS = {"elf": "constants.S", "wasm": "constants_wasm.S", "macho": "constants_macho.S"}
"""The file that includes the constants, by the format of objects."""

_LIBRARIES = {
    False: "; no call\n * raises a signal, whatever CPU it runs on.\n *\n"
    " * Link with lib@name@.a or lib@name@.so, and with -lm.",
    True: ".\n *\n * Link with the library of the CPU, lib@name@_CPU.a, and with -lm.",
}
"""What the header says of libraries, with an operating system and without."""


def workspace_size(program: Program) -> int:
    """Bytes of the workspace that a caller provides: never none, for C has no empty arrays."""
    return max(-(-program.workspace_bytes // ALIGNMENT), 1) * ALIGNMENT


def public_header(program: Program, architecture: str) -> str:
    """The text of <name>.h."""
    known = architectures.named(architecture)
    text = header_text("header.h").replace("@library@", _LIBRARIES[known.bare])
    text = text.replace("@threads@\n", template_text("header_threads.h") if known.threads else "")
    return filled_text(program, text)


def header_text(template: str) -> str:
    """A header with what all headers say of tensors, and of names and sizes."""
    text = template_text(template)
    for part in ("tensor", "names"):
        text = text.replace(f"@{part}@\n", template_text(f"header_{part}.h"))
    return text


def example(program: Program, template: str, compilers: Mapping[str, str], *, on_device: bool = False) -> str:
    """The text of an example program; compilers: the commands that its first comment names, by language."""
    text = template_text(template)
    for key, said in {**compilers, **(_DEVICE_EXAMPLE if on_device else _EXAMPLE)}.items():
        text = text.replace(f"@{key}@", said)
    return filled_text(program, text)


def picture_program(program: Program, pixels: Pixels, compilers: Mapping[str, str]) -> str:
    """The text of a program that reads a picture, for a network that `classifies`; compilers: see `example`."""
    (tensor,) = program.inputs
    width, height = size_of(tensor, pixels.layout)
    facts = {
        "channels": len(pixels.mean),
        "height": height,
        "width": width,
        "planar": int(pixels.layout == "nchw"),
        "mean": ", ".join(map(repr, pixels.mean)),
        "scale": ", ".join(map(repr, pixels.scale)),
        "type": C_TYPES[tensor.dtype],
        "classes": program.outputs[0].shape[-1],
    }
    text = example(program, "picture.c", compilers)
    for key, value in facts.items():
        text = text.replace(f"@{key}@", str(value))
    return text


def board_example(program: Program) -> str:
    """The text of an example program for boards, whose arrays are static."""
    arrays, names = [], {}
    for kind, tensors in (("input", program.inputs), ("output", program.outputs)):
        names[kind] = [f"{kind}{index}" for index in range(len(tensors))]
        rows = zip(names[kind], tensors, strict=True)
        arrays += [f"static _Alignas(8) unsigned char {name}[{tensor_bytes(tensor)}];" for name, tensor in rows]
    text = filled(program, "board_example.c").replace("@arrays@", "\n".join(arrays))
    for kind, all_names in names.items():
        text = text.replace(f"@{kind}_arrays@", ", ".join(all_names))
    return text


def classifies(program: Program) -> bool:
    """Whether the network gives scores of classes for one picture, and nothing else."""
    output, *others = program.outputs
    scores = output.dtype == "float32" and output.shape and math.prod(output.shape) == output.shape[-1] > 1
    return bool(not others and scores and program.inputs[0].shape[0] == 1)


def named(template: str, name: str) -> str:
    """The text of a C file that depends on the network's name alone."""
    return template_text(template).replace("@name@", name).replace("@NAME@", name.upper())


def internal_symbols(program: Program) -> tuple[str, ...]:
    """Names that the two objects of the static library share, besides the public ones."""
    return tuple(f"{program.name}_internal_{part}" for part in ("prepare", "execute", "failed", "batch"))


def public_symbols(program: Program, architecture: str) -> tuple[str, ...]:
    """Every function of the public header."""
    pattern = rf"\b({re.escape(program.name)}_[a-z_]+)\("
    return tuple(sorted(set(re.findall(pattern, public_header(program, architecture)))))


def kernel_symbol(program: Program, variant: VariantCode, symbol: str) -> str:
    """The name of a kernel in the library: unique across variants and, until it becomes local, across networks."""
    return f"{program.name}_kernel_{variant.name}_{symbol}"


def sources(program: Program, architecture: str) -> dict[str, str]:
    """All files to compile, by name; constants.S includes the constants from constants.bin."""
    known = architectures.named(architecture)
    cpu, constants = known.cpu_source, _CONSTANTS[known.file_format]
    return {
        f"{program.name}.h": public_header(program, architecture),
        "this-network.h": network_header(program.name),
        "all-internals.h": template_text("internal.h"),
        "all-names.h": template_text("names.h"),
        "this-cpu.h": template_text(f"{cpu}.h"),
        "cpu.c": template_text(f"{cpu}.c"),
        "runtime.c": template_text("runtime.c"),
        "threads.c": template_text("threads.c"),
        "tables.c": _tables(program, architecture),
        "constants.S": filled(program, constants),
    }


def known_features(architecture: str) -> frozenset[str]:
    """The CPU features that the dispatcher can test."""
    return frozenset(
        re.findall(r"^ {4}F\((\w+),", template_text(f"{architectures.named(architecture).cpu_source}.h"), re.MULTILINE)
    )


def template_text(name: str) -> str:
    """A file of c/."""
    return (resources.files("qcompiler.bundle") / "c" / name).read_text(encoding="utf-8")


def filled(program: Program, template: str) -> str:
    """The text of a file of c/ for a network."""
    return filled_text(program, template_text(template))


def filled_text(program: Program, text: str) -> str:
    """A text for a network: sizes, tensors and its name."""
    numbers = {
        "workspace_size": workspace_size(program),
        "inputs": len(program.inputs),
        "outputs": len(program.outputs),
        "steps": len(program.steps),
        "variants": len(program.variants),
        "any_batch": int(program.any_batch),
    }
    for key, number in numbers.items():
        text = text.replace(f"@{key}@", str(number))
    text = text.replace("@summary@", summary(program)).replace("@tensors@", _tensor_macros(program))
    return text.replace("@name@", program.name).replace("@NAME@", program.name.upper())


def summary(program: Program) -> str:
    """Steps and variants, for comments."""
    variants = " or ".join(variant.name for variant in program.variants)
    return f"{len(program.steps)} steps for {program.target} ({variants})"


def _tensor_macros(program: Program) -> str:
    lines = []
    for kind, tensors in (("INPUT", program.inputs), ("OUTPUT", program.outputs)):
        for index, tensor in enumerate(tensors):
            elements = tensor_bytes(tensor) // DTYPES[tensor.dtype]
            shape = ", ".join(map(str, tensor.shape))
            in_file = f", {tensor.file_dtype} in the ONNX file" if tensor.file_dtype else ""
            what = f"{_comment(tensor.name)}, {C_TYPES[tensor.dtype]} [{shape}]{in_file}"
            lines.append(f"/* {kind.lower()} {index}: {what} */")
            lines.append(f"#define @NAME@_{kind}{index}_ELEMENTS {elements}")
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    """`text` for the inside of a C comment or a single line: no end of comment, no trigraph, no line break."""
    plain = re.sub(r"[^\w .,:()\[\]-]", "_", text, flags=re.ASCII)
    return plain[:MAX_NAME]


def c_string(text: str) -> str:
    """A C string literal of the UTF-8 bytes of `text`, safe for any content."""
    plain = [
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}" for byte in text.encode("utf-8")
    ]
    return '"' + "".join(plain) + '"'


def network_header(name: str) -> str:
    """What the fixed sources call their network's public names."""
    return f"""\
#include "{name}.h"

#define API(x) {name}_##x
#define LIMIT(x) {name.upper()}_##x
#define TENSOR {name}_tensor
#define POOL {name}_pool
"""


def _tables(program: Program, architecture: str) -> str:
    parts = [
        *known_tables(program),
        *(line for variant in program.variants for line in _variant_table(program, variant)),
        "const struct variant API(internal_variants)[LIMIT(VARIANTS)] = {",
        *(_variant_row(variant, architecture) for variant in program.variants),
        "};",
    ]
    return "\n".join(parts) + "\n"


def known_tables(program: Program) -> Iterator[str]:
    """The tables that a network has wherever it runs: tensors, names of steps, and what faults are called."""
    yield '#include "all-internals.h"\n'
    yield from _tensor_table("inputs", program.inputs)
    yield from _tensor_table("outputs", program.outputs)
    yield "const char *const API(internal_step_names)[LIMIT(STEPS)] = {"
    yield from (f"    {c_string(_step_name(step.op, step.nodes))}," for step in program.steps)
    yield "};\n"
    yield from _fault_function(program)


def _step_name(op: str, nodes: Sequence[str]) -> str:
    more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
    return f"{op} {nodes[0]}{more}" if nodes else op


def _fault_function(program: Program) -> Iterator[str]:
    """The function that names the nodes of a step that the data of a run made fail."""
    yield "const char *API(internal_fault_text)(int status) {"
    yield "    switch (status) {"
    for index, step in enumerate(program.steps):
        for fault in step.faults:
            text = f"{_step_name(step.op, step.nodes)}: {FAULT_TEXTS[fault]}"
            yield f"    case STEP_STATUS({index}, {fault.value}): return {c_string(text)};"
    yield "    default: return NULL;"
    yield "    }\n}\n"


def _tensor_table(kind: str, tensors: Sequence[TensorInfo]) -> Iterator[str]:
    """The tables of "inputs" or "outputs"."""
    for index, tensor in enumerate(tensors):
        sizes = ", ".join(map(str, tensor.shape)) or "1"
        yield f"static const int64_t {kind}_{index}_shape[] = {{{sizes}}};"
    yield f"const TENSOR API(internal_{kind})[LIMIT({kind.upper()})] = {{"
    for index, tensor in enumerate(tensors):
        row = f"{c_string(tensor.name)}, {c_string(tensor.dtype)}, {kind}_{index}_shape"
        yield f"    {{{row}, {len(tensor.shape)}, {tensor_bytes(tensor)}}},"
    yield "};"
    element_bytes = ", ".join(str(DTYPES[tensor.dtype]) for tensor in tensors)
    yield f"const unsigned char API(internal_{kind[:-1]}_sizes)[] = {{{element_bytes}}};\n"


def _variant_table(program: Program, variant: VariantCode) -> Iterator[str]:
    for symbol, pointers in {call.symbol: len(call.arguments) for call in variant.calls}.items():
        parameters = "const void *, " * pointers
        yield f"extern int32_t {kernel_symbol(program, variant, symbol)}({parameters}int32_t, int32_t);"
    for index, call in enumerate(variant.calls):
        yield from _call_function(program, variant, index, call)
    yield f"static const struct step {variant.name}_steps[] = {{"
    for index, call in enumerate(variant.calls):
        yield f"    {{{variant.name}_{index}, {call.items}}},"
    yield "};\n"


def _call_function(program: Program, variant: VariantCode, index: int, call: Call) -> Iterator[str]:
    arguments = "".join(f"{_pointer(argument)}, " for argument in call.arguments)
    kinds = {argument.kind for argument in call.arguments}
    run = f"{kernel_symbol(program, variant, call.symbol)}({arguments}begin, end)"
    yield f"static int32_t {variant.name}_{index}(const struct memory *memory, int32_t begin, int32_t end) {{"
    if kinds <= {"constant", "fault"}:
        yield "    (void)memory;"
    if "fault" in kinds:
        yield f"    int32_t fault = 0, error = {run};\n    return error ? error : fault;\n}}"
    else:
        yield f"    return {run};\n}}"


def _pointer(argument: Argument) -> str:
    return {
        "input": f"memory->inputs[{argument.position}]",
        "output": f"memory->outputs[{argument.position}]",
        "workspace": f"memory->workspace + {argument.position}",
        "constant": f"API(internal_constants) + {argument.position}",
        "fault": "&fault",
    }[argument.kind]


def _variant_row(variant: VariantCode, architecture: str) -> str:
    unknown = sorted(set(variant.features) - known_features(architecture))
    if unknown:
        raise QCompilerError(f"internal error: variant {variant.name} needs unknown CPU features {', '.join(unknown)}")
    features = " | ".join(f"CPU_FEATURE({feature})" for feature in variant.features) or "0"
    return f"    {{{c_string(variant.name)}, {features}, {variant.name}_steps}},"

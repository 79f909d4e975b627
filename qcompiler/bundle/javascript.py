"""The JavaScript side of one network: fixed files from js/, filled with what the program says of itself."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources

from qcompiler.bundle import glue
from qcompiler.bundle.manifest import Manifest, module_name
from qcompiler.ir.program import Program, TensorInfo
from qcompiler.version import NAME, version

# of numpy's names; 16-bit floats are given as their bits, as in C
ARRAYS = {
    "bool": "Uint8Array",
    "int8": "Int8Array",
    "uint8": "Uint8Array",
    "int16": "Int16Array",
    "uint16": "Uint16Array",
    "float16": "Uint16Array",
    "int32": "Int32Array",
    "uint32": "Uint32Array",
    "float32": "Float32Array",
    "int64": "BigInt64Array",
    "uint64": "BigUint64Array",
    "float64": "Float64Array",
}


def package(program: Program, sizes: Mapping[str, int]) -> dict[str, str]:
    """The texts of the npm package's files, by name. sizes: bytes of the module of every variant."""
    names = {key: _filled(program, key) for key in ("index.js", "index.d.ts", "example.mjs")}
    names["index.js"] = names["index.js"].replace("@variants@", _variants(program, sizes))
    return {"package.json": _package_json(program), **names}


def isolated(manifest: Manifest, files: Sequence[str], stack: int) -> str:
    """The text of the program that runs steps for verification. files: the modules, stack: bytes of their stack."""
    facts = {
        "name": manifest.name,
        "input_count": len(manifest.inputs),
        "output_count": len(manifest.outputs),
        "workspace_size": manifest.workspace_bytes,
        "files": json.dumps(list(files)),
        "stack_size": stack,
    }
    return _replaced(_template("isolated.mjs"), facts)


def _filled(program: Program, template: str) -> str:
    facts = {
        "name": program.name,
        "summary": glue.summary(program),
        "example": ", ".join(f"{_key(each.name)}: new {ARRAYS[each.dtype]}(...)" for each in program.inputs),
        "inputs": _tensors(program.inputs),
        "outputs": _tensors(program.outputs),
        "any_batch": json.dumps(program.any_batch),
        "workspace_size": glue.workspace_size(program),
        "batch": ", or those of several runs one behind the other" if program.any_batch else "",
        "input_types": _types(program.inputs),
        "output_types": _types(program.outputs),
        "variant_names": " | ".join(json.dumps(variant.name) for variant in program.variants),
    }
    return _replaced(_template(template), facts)


def _replaced(text: str, facts: Mapping[str, object]) -> str:
    """Every @key@ replaced at once: what a fact says is not looked through again."""
    return re.sub("@(" + "|".join(facts) + ")@", lambda match: str(facts[match[1]]), text)


def _tensors(tensors: Sequence[TensorInfo]) -> str:
    """Names are untrusted: JSON in ASCII is a JavaScript literal of nothing but text."""
    rows = [
        {"name": each.name, "dtype": each.dtype, "array": ARRAYS[each.dtype], "shape": list(each.shape)}
        for each in tensors
    ]
    return "[\n" + "".join(f"  {json.dumps(row)},\n" for row in rows) + "]"


def _types(tensors: Sequence[TensorInfo]) -> str:
    return "\n".join(f"  {json.dumps(each.name)}: {ARRAYS[each.dtype]};" for each in tensors)


def _key(name: str) -> str:
    """A property name for the inside of a comment."""
    return name if name.isidentifier() and name.isascii() else json.dumps(re.sub(r"[^\w .:-]", "_", name))


def _variants(program: Program, sizes: Mapping[str, int]) -> str:
    """Literal `new URL(..., import.meta.url)`, by which bundlers find files."""
    rows = []
    for variant in program.variants:
        file = module_name(program.name, variant.name)
        facts = f'name: "{variant.name}", file: "{file}", bytes: {sizes[variant.name]}'
        vectors = json.dumps(bool(variant.features))
        rows.append(f'  {{ {facts}, vectors: {vectors}, url: () => new URL("./{file}", import.meta.url) }},')
    return "\n".join(rows)


def _package_json(program: Program) -> str:
    document = {
        "name": program.name,
        "version": "1.0.0",
        "description": f"A compiled network, made by {NAME} {version()}",
        "type": "module",
        "main": "./index.js",
        "types": "./index.d.ts",
        "exports": {
            ".": {"types": "./index.d.ts", "default": "./index.js"},
            "./*.wasm": "./*.wasm",
        },
        "files": ["index.js", "index.d.ts", "example.mjs", "*.wasm"],
        "sideEffects": False,
    }
    return json.dumps(document, indent=2) + "\n"


def _template(name: str) -> str:
    return (resources.files("qcompiler.bundle") / "js" / name).read_text(encoding="utf-8")

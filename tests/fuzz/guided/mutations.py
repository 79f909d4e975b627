"""Random changes to ONNX files that keep them files: any field of any message becomes any value of its type.

What a fuzzer of bytes changes is mostly refused by the parser. These changes reach what lies behind it: the wiring,
operators, attributes, types and stored tensors of graphs and functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

# chosen
_CHANGES = (1, 1, 1, 2, 2, 3, 5)
_MOST_BYTES = 2**17

_INTEGERS = (0, 1, -1, 2, 3, 4, 5, 7, 8, 13, 16, 20, 21, 22, 25, 32, 33, 127, 255, 2**31 - 1, -(2**31), 2**40)
_LARGE = (2**63 - 1, -(2**63), 2**62)
_FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 2.5, 33.0, 1e-45, 1e-38, 3e38, float("inf"), float("-inf"), float("nan"))
_TEXTS = ("", "/", "a/b:0", "it's", '"', "line\nline", "\0", "ü", "\U0001f600", "x" * 10_000, "..", "%s", "--help")
# fmt: off
_WORDS = (
    "axis", "axes", "block_size", "to", "group", "pads", "strides", "dilations", "kernel_shape", "auto_pad", "perm",
    "transB", "signed", "narrow", "rounding_mode", "value", "saturate", "alpha", "keepdims", "bits", "K", "N", "levels",
    "SAME_UPPER", "VALID", "ROUND", "CEIL", "Quant", "BipolarQuant", "Trunc", "MultiThreshold", "QuantizeLinear",
    "DequantizeLinear", "QLinearConv", "QLinearMatMul", "QGemm", "MatMulNBits", "ConvInteger", "MatMulInteger",
    "DynamicQuantizeLinear", "FakeQuantize", "XnorPopcountMatMul", "Conv", "ConvTranspose", "Gemm", "MatMul", "Clip",
    "Cast", "Identity", "Reshape", "Transpose", "Concat", "Split", "Slice", "Gather", "Pad", "Resize", "If", "Loop",
    "Constant", "ConstantOfShape", "Expand", "Sign", "Where", "Round", "com.microsoft", "qonnx.custom_op.general",
    "onnx.brevitas", "finn.custom_op.general", "qcompiler", "ai.onnx", "org.openvinotoolkit",
)
# fmt: on


def mutated(content: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """The file with one change or a few, of which some take parts of `others`; as it is where it does not parse."""
    model = parsed(content)
    if model is None:
        return content
    donors = [donor for donor in map(parsed, others) if donor is not None]
    for _ in range(random.choice(_CHANGES)):
        _change(model, donors, random)
    result = model.SerializeToString()
    return result if len(result) <= _MOST_BYTES else content


def parsed(content: bytes) -> onnx.ModelProto | None:
    """The model, None for bytes that are none."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError:
        return None
    return model


def _change(model: Message, donors: Sequence[Message], random: Random) -> None:
    """One change to one field of one message."""
    messages = list(_messages(model))
    message = random.choice(messages)
    present = [field for field, _ in message.ListFields()]
    # mostly what is there, for what is not is mostly ignored
    field = random.choice(present if present and random.random() < 0.8 else message.DESCRIPTOR.fields)
    names = _names(messages)
    pool = [each for donor in donors for each in _messages(donor)] if random.random() < 0.3 else messages
    if field.is_repeated:
        _change_list(message, field, pool, names, random)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        _change_message(message, field, pool, random)
    elif random.random() < 0.1:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, _scalar(field, getattr(message, field.name), names, random))


def _change_message(message: Message, field: FieldDescriptor, pool: Sequence[Message], random: Random) -> None:
    same = [each for each in pool if each.DESCRIPTOR is field.message_type]
    if same and random.random() < 0.8:
        copy = type(same[0])()
        copy.CopyFrom(random.choice(same))
        getattr(message, field.name).CopyFrom(copy)
    else:
        message.ClearField(field.name)


def _change_list(
    message: Message, field: FieldDescriptor, pool: Sequence[Message], names: Sequence[str], random: Random
) -> None:
    """Take an element out, change one, put one in, or exchange two."""
    elements = list(getattr(message, field.name))
    place = random.randrange(len(elements) + 1)
    made = _element(field, elements, pool, names, random)
    kind = random.randrange(4)
    if kind == 0:
        del elements[place : place + 1]
    elif kind == 1 and made is not None:
        elements[place : place + 1] = [made]
    elif kind == 2 and made is not None:
        elements.insert(place, made)
    elif elements:
        place = random.randrange(len(elements))
        elements[0], elements[place] = elements[place], elements[0]
    # the parser hands out as bytes what is no text, and takes no such bytes back
    is_text = field.type == FieldDescriptor.TYPE_STRING
    copies = [_copy(each) for each in elements if isinstance(each, str) or not is_text]
    message.ClearField(field.name)
    getattr(message, field.name).extend(copies)


def _copy(element: Any) -> Any:
    if not isinstance(element, Message):
        return element
    copy = type(element)()
    copy.CopyFrom(element)
    return copy


def _element(
    field: FieldDescriptor, elements: Sequence[Any], pool: Sequence[Message], names: Sequence[str], random: Random
) -> Any:
    if field.type != FieldDescriptor.TYPE_MESSAGE:
        return _scalar(field, random.choice(elements) if elements else None, names, random)
    same = [*elements, *(each for each in pool if each.DESCRIPTOR is field.message_type)]
    return random.choice(same) if same else None


def _scalar(field: FieldDescriptor, old: Any, names: Sequence[str], random: Random) -> Any:
    """A value of the field's type."""
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return random.choice(field.enum_type.values).number
    if kind == FieldDescriptor.CPPTYPE_STRING:
        is_bytes = field.type == FieldDescriptor.TYPE_BYTES
        return _bytes(old, names, random) if is_bytes else _text(names, random)
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return random.choice(_FLOATS)
    number = (old or 0) + random.choice((-1, 1)) if random.random() < 0.3 else random.choice((*_INTEGERS, *_LARGE))
    low, high = _LIMITS[kind]
    return min(max(number, low), high)


_LIMITS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_BOOL: (0, 1),
}


def _text(names: Sequence[str], random: Random) -> str:
    """Mostly a name of the file, so that the wiring changes."""
    kinds = (names, names, names, _WORDS, _WORDS, _TEXTS)
    return random.choice(random.choice([kind for kind in kinds if kind]))


def _bytes(old: bytes | None, names: Sequence[str], random: Random) -> bytes:
    """Stored numbers and texts: another byte, another length, other numbers, or a text."""
    content = bytearray(old or b"")
    changes: tuple[Callable[[], bytes], ...] = (
        lambda: bytes(content[: random.randrange(len(content) + 1)]),
        lambda: bytes(content) + random.randbytes(random.randrange(1, 9)),
        lambda: bytes(byte if random.random() < 0.9 else random.randrange(256) for byte in content),
        lambda: bytes(len(content)),
        lambda: b"\xff" * len(content),
        lambda: _text(names, random).encode(),
    )
    return random.choice(changes)()


def _names(messages: Sequence[Message]) -> list[str]:
    """The texts of the file, of which most are names of values, nodes and operators; not those that are no text."""
    found: dict[str, None] = {}
    for message in messages:
        for field, value in message.ListFields():
            if field.type == FieldDescriptor.TYPE_STRING:
                found.update(dict.fromkeys(value if field.is_repeated else [value]))
    return [name for name in found if isinstance(name, str)]


def _messages(root: Message) -> Iterator[Message]:
    """A message and all that it holds."""
    waiting = [root]
    while waiting:
        message = waiting.pop()
        yield message
        for field, value in message.ListFields():
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                waiting.extend(value if field.is_repeated else [value])

"""Calls between Python and generated code: values into slots, entry, slots into values.

For each function type, one Python function is generated that checks and packs its arguments,
enters the code, and unpacks the results; a loop over the types would take most of a call's time.
The same for the other direction, where generated code calls a host function.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING, Any

from . import convert
from .errors import Terminate
from .native.layout import CALL_SLOTS, SLOT_BYTES, STATUS_HOST_RAISED, CallDescriptor
from .native.type_stubs import type_stubs
from .types import FunctionType
from .values import V128

if TYPE_CHECKING:
    from .core import StoreCore
    from .statistics import Statistics

Caller = Callable[..., list[Any]]

_I32, _I64, _F32, _F64, _V128 = 0x7F, 0x7E, 0x7D, 0x7C, 0x7B
_REFERENCES = (0x70, 0x6F)

# struct codes of a slot's content, as arguments and as results. A f32 travels as its bits: "f"
# would make signalling NaNs quiet.
_IN = {_I32: "I12x", _I64: "Q8x", _F32: "I12x", _F64: "d8x", _V128: "QQ"}
_OUT = {_I32: "i12x", _I64: "q8x", _F32: "I12x", _F64: "d8x", _V128: "QQ"}


def _format(kinds: tuple[int, ...], codes: dict[int, str]) -> str:
    return "<" + "".join(codes.get(kind, "Q8x") for kind in kinds)


def _names(kinds: tuple[int, ...], letter: str) -> list[str]:
    """Variables of the slots' contents: a vector has two, its low and its high half."""
    return [
        name
        for i, kind in enumerate(kinds)
        for name in ([f"{letter}{i}", f"{letter}{i}h"] if kind == _V128 else [f"{letter}{i}"])
    ]


def _encode(kind: int, name: str, position: str, keeper: str) -> list[str]:
    """Statements that turn the value in `name` into what `struct` packs."""
    if kind == _I32:
        return [
            f"if type({name}) is not int or not -0x80000000 <= {name} <= 0xFFFFFFFF:",
            f"    {name} = to_bits({name}, {kind}, {position})",
            f"{name} &= 0xFFFFFFFF",
        ]
    if kind == _I64:
        return [
            f"if type({name}) is not int or not -1 << 63 <= {name} < 1 << 64:",
            f"    {name} = to_bits({name}, {kind}, {position})",
            f"{name} &= 0xFFFFFFFFFFFFFFFF",
        ]
    if kind == _F64:
        return [
            f"if type({name}) is not float:",
            f"    {name} = from_bits(to_bits({name}, {kind}, {position}), {kind})",
        ]
    if kind == _F32:
        return [f"{name} = to_bits({name}, {kind}, {position})"]
    if kind == _V128:
        return [
            f"if type({name}) is not V128: to_bits({name}, {kind}, {position})",
            f"{name}h = {name}.high",
            f"{name} = {name}.low",
        ]
    return [f"{name} = to_handle({name}, {kind}, {keeper})"]


def _decode(kind: int, name: str) -> list[str]:
    if kind == _F32:
        return [f"{name} = from_bits({name}, {kind})"]
    if kind == _V128:
        return [f"{name} = V128({name}h, {name})"]
    if kind in _REFERENCES:
        return [f"{name} = from_handle({name}, {kind})"]
    return []


def _indent(lines: list[str], depth: int) -> str:
    return "".join(f"{'    ' * depth}{line}\n" for line in lines)


@functools.lru_cache(maxsize=1024)
def _caller_factory(kind: FunctionType) -> Callable[..., Any]:
    parameters = tuple(map(int, kind.parameters))
    returns = tuple(map(int, kind.returns))
    arguments = [f"a{i}" for i in range(len(parameters))]
    encode: list[str] = []
    references: list[str] = []
    for i, code in enumerate(parameters):
        target = references if code in _REFERENCES else encode
        target += _encode(code, f"a{i}", str(i + 1), "keeper")
    packed = _names(parameters, "a")
    unpacked = _names(returns, "r")
    decode = [line for i, code in enumerate(returns) for line in _decode(code, f"r{i}")]
    uses_references = any(code in _REFERENCES for code in parameters + returns)
    unpack = [f"({', '.join(unpacked)},) = unpack(buffer, {CALL_SLOTS})"] if returns else []
    body = [
        *references,
        *([f"pack(buffer, {CALL_SLOTS}, {', '.join(packed)})"] if packed else []),
        "status = enter(address)",
        "if status: settle(status, address)",
        *unpack,
        *decode,
    ]
    if uses_references:
        # A call in a signal handler may not forget what this one is about to pass.
        body = [
            "outer = core.reference_calls",
            "core.reference_calls = outer + 1",
            "try:",
            *("    " + line for line in body),
            "finally:",
            "    core.reference_calls = outer",
            "    sweep()",
        ]
    else:
        body += ["if temporary: sweep()"]  # host functions may have returned objects
    spread = f"({', '.join(arguments)},) = args" if arguments else "if args: raise ValueError"
    source = (
        "def make(core, lock, buffer, address, enter, settle, pack, unpack, keeper, activation,\n"
        "         to_bits, from_bits, to_handle, from_handle, temporary, sweep, wrong_count,\n"
        "         Terminate, V128, again):\n"
        "    busy = False\n"
        "    def call(*args):\n"
        "        nonlocal busy\n"
        "        try:\n"
        f"            {spread}\n"
        "        except ValueError:\n"
        "            raise wrong_count(len(args)) from None\n"
        + _indent(encode, 2)
        # Python runs signal handlers and finalizers between any two of these steps. One that calls
        # the same function must not use the buffer of the call that it interrupts.
        + "        with lock:\n"
        "            if busy: return again(args)\n"
        "            busy = True\n"
        "            try:\n" + _indent(body, 4) + "            except Terminate:\n"
        "                if activation.depth: raise\n"
        "                return []\n"
        "            finally:\n"
        "                busy = False\n"
        f"        return [{', '.join(f'r{i}' for i in range(len(returns)))}]\n"
        "    return call\n"
    )
    return _compile(source)


def _compile(source: str) -> Callable[..., Any]:
    namespace: dict[str, Any] = {}
    exec(compile(source, "<wasmedge call>", "exec"), namespace)  # our own text
    make: Callable[..., Any] = namespace["make"]
    return make


def _argument_bits(value: Any, kind: int, position: int, what: str = "argument {}") -> int:
    try:
        return convert.to_bits(value, kind)
    except (TypeError, OverflowError) as error:
        raise type(error)(f"{what.format(position)}: {error}") from None


_result_bits = functools.partial(_argument_bits, what="result {} of the host function")


def make_caller(
    core: StoreCore,
    record: int,
    kind: FunctionType,
    statistics: Statistics | None,
    timing: bool,
    keeper: Callable[[Any], None],
) -> Caller:
    """A Python function that calls the wasm function of a record.

    `keeper` is told what the references among its arguments need to stay alive.
    """
    from .function import wrong_count

    slots = max(len(kind.parameters), len(kind.returns), 1)
    # 16 bytes more than needed: the slots of vectors want an aligned address.
    raw = (ctypes.c_ubyte * (CALL_SLOTS + slots * SLOT_BYTES + SLOT_BYTES))()
    start = -ctypes.addressof(raw) % SLOT_BYTES
    buffer = memoryview(raw).cast("B")[start:]
    address = ctypes.addressof(raw) + start
    descriptor = CallDescriptor.from_address(address)
    descriptor.activation = core.activation_address
    descriptor.record = record
    descriptor.thunk = type_stubs(kind).thunk
    activation = core.activation

    enter: Callable[[int], int] = core.support.enter
    settle: Callable[[int, int], None] = core.settle
    if statistics is not None:

        def enter_measured(address: int) -> int:
            core.measured(address, statistics, timing)
            return 0

        enter = enter_measured

    spare: list[Caller] = []

    def again(args: tuple[Any, ...]) -> list[Any]:
        """A call inside a call of the same function: with a buffer of its own."""
        if spare:
            nested = spare.pop()
        else:
            nested = make_caller(core, record, kind, statistics, timing, keeper)
        try:
            return nested(*args)
        finally:
            spare.append(nested)

    caller: Caller = _caller_factory(kind)(
        core,
        core.lock,
        buffer,
        address,
        enter,
        settle,
        Struct(_format(tuple(map(int, kind.parameters)), _IN)).pack_into,
        Struct(_format(tuple(map(int, kind.returns)), _OUT)).unpack_from,
        keeper,
        activation,
        _argument_bits,
        convert.from_bits,
        core.to_handle,
        core.from_handle,
        core.temporary,
        core.sweep_externs,
        functools.partial(wrong_count, kind),
        Terminate,
        V128,
        again,
    )
    # The call may not mention its buffer (no slots), but the address points into it.
    caller.__dict__["buffer"] = raw
    return caller


@functools.lru_cache(maxsize=1024)
def _callback_factory(kind: FunctionType) -> Callable[..., Any]:
    parameters = tuple(map(int, kind.parameters))
    returns = tuple(map(int, kind.returns))
    unpacked = _names(parameters, "a")
    take = [f"({', '.join(unpacked)},) = unpack(slots)"] if parameters else []
    take += [line for i, code in enumerate(parameters) for line in _decode(code, f"a{i}")]
    arguments = "".join(f", a{i}" for i in range(len(parameters)))
    if not returns:
        give = ["if r is not None: sequence_of_results(r, 0)"]
    elif len(returns) == 1:
        give = ["if isinstance(r, (list, tuple)): (r,) = sequence_of_results(r, 1)", "r0 = r"]
    else:
        names = ", ".join(f"r{i}" for i in range(len(returns)))
        give = [f"({names},) = sequence_of_results(r, {len(returns)})"]
    for i, code in enumerate(returns):
        give += _encode(code, f"r{i}", str(i + 1), "keeper")
    if returns:
        give.append(f"pack(slots, 0, {', '.join(_names(returns, 'r'))})")
    source = (
        "def make(core, body, data, cost, slots, status, pack, unpack, keeper,\n"
        "         activation, memory_of, to_bits, from_bits, to_handle, from_handle,\n"
        "         sequence_of_results, V128):\n"
        "    def callback():\n"
        "        try:\n"
        + _indent([*take, "memory = memory_of(activation.caller)"], 3)
        + "            if core.metering:\n"
        f"                r = core.metered(cost, body, data, memory{arguments})\n"
        "            else:\n"
        f"                r = body(data, memory{arguments})\n"
        + _indent(give, 3)
        + "            status.value = 0\n"
        "        except BaseException as error:\n"
        "            core.pending = error\n"
        f"            status.value = {STATUS_HOST_RAISED}\n"
        "    return callback\n"
    )
    return _compile(source)


_Callback = ctypes.CFUNCTYPE(None)


def make_callback(
    core: StoreCore,
    kind: FunctionType,
    body: Callable[..., Any],
    data: Any,
    cost: int,
    slots: ctypes.Array[ctypes.c_ubyte],
    status: ctypes.c_uint64,
    keeper: Callable[[Any], None],
) -> Any:
    """A C function without arguments that runs a host function on what is in its slots."""
    from .function import sequence_of_results

    callback = _callback_factory(kind)(
        core,
        body,
        data,
        cost,
        slots,
        status,
        Struct(_format(tuple(map(int, kind.returns)), _IN)).pack_into,
        Struct(_format(tuple(map(int, kind.parameters)), _OUT)).unpack_from,
        keeper,
        core.activation,
        core.memory_of.get,
        _result_bits,
        convert.from_bits,
        core.to_handle,
        core.from_handle,
        sequence_of_results,
        V128,
    )
    return _Callback(callback)

"""Every message between the parent and a worker: records, their limits, the checks of fields.

One class here is one message; on the data socket it is a msgpack array ``[tag, field, ...]``
(`wasmedge_pool.fields` has the tags, `wasmedge_pool.protocol` the framing). Nothing is a map, an
extension type or a pickle. A worker runs guests, so the parent believes nothing it sends: every
field's type is checked, and anything wrong is a `ProtocolError`, which ends the worker.

Control socket: datagrams of a kind (1 byte) and a request's number (8 bytes), see `INTERRUPT`,
`WITHDRAW`, `SKIPPED` and `FAULT`. It works while the worker is busy with a request.

The order is fixed: requests are numbered upwards as they are sent, run in that order, and are
answered in that order. What is changed here changes `VERSION`: a worker is always started by the
same installation, so there is nothing to be compatible with, but a mixture must be noticed.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple, TypeAlias

__all__ = [
    "ANSWER",
    "ASK",
    "CHUNK",
    "CONTROL",
    "DESCRIPTORS",
    "FAULT",
    "FLOAT",
    "FUNCTION",
    "GROW",
    "HOST_FUNCTION",
    "INTEGER",
    "INTERRUPT",
    "MAX_ARRAY",
    "MAX_MESSAGE",
    "NESTED",
    "OBJECT",
    "PEEK",
    "PIECE",
    "POKE",
    "RAISED",
    "REFUSAL",
    "REGISTERED_MODULES",
    "RETURNED",
    "SCALARS",
    "SIZE",
    "SKIPPED",
    "TERMINATED",
    "VERSION",
    "WITHDRAW",
    "Batch",
    "BatchError",
    "BatchResults",
    "Broadcast",
    "Call",
    "CallBindgen",
    "CallHandle",
    "Chunk",
    "Cleanup",
    "Compile",
    "CreateVM",
    "Data",
    "DropVM",
    "Failure",
    "Find",
    "Follow",
    "GetCodeStatus",
    "GetExitCode",
    "GetFunctionList",
    "GetFunctionType",
    "GetStatistics",
    "HasHost",
    "Hello",
    "HostCall",
    "HostReply",
    "InitCommands",
    "InitWasi",
    "Instantiate",
    "Items",
    "List",
    "Load",
    "Log",
    "Message",
    "Operate",
    "Progress",
    "ProtocolError",
    "ReadMemory",
    "Ready",
    "Register",
    "RegisterImport",
    "Release",
    "Result",
    "Run",
    "SetStatistics",
    "Share",
    "Skipped",
    "Spawn",
    "Unreferenced",
    "Validate",
    "Value",
    "Want",
    "Wanted",
    "Within",
    "WriteMemory",
]

VERSION: Final = 1

# The body of one frame. A worker can make the parent allocate about 30 times this, for a moment.
MAX_MESSAGE: Final = 1 << 20
# Elements of any array. msgpack allocates an array when it has read the length, and nests up to
# 1,024 of them: 4,096 bounds what a few bytes can claim to 33 MB.
MAX_ARRAY: Final = 4096
# Bulk data travels in pieces of this size, so that nothing waits long behind it.
CHUNK: Final = 256 * 1024

# Control datagrams. Parent to worker: end the request with this number, running or not yet begun.
INTERRUPT: Final = 1
# Parent to worker: skip the request with this number, but only if it has not begun.
WITHDRAW: Final = 4
# Worker to parent: the request had not begun, and will not.
SKIPPED: Final = 2
# Worker to parent, instead of a number a text: why the worker gives up.
FAULT: Final = 3
CONTROL: Final = struct.Struct(">BQ")

# Parent to worker: access to the memory of the caller of the host function that is open, with the
# number of the host call, offset and length; for `POKE` the data follows. Not longer than `PIECE`.
PEEK: Final = 5
POKE: Final = 6
SIZE: Final = 7
GROW: Final = 8
ASK: Final = struct.Struct(">BQQQ")
PIECE: Final = 64 * 1024
# Worker to parent: what was read, or the size in pages (8 bytes); or why not, as an `ErrCode` (1
# byte) and text.
ANSWER: Final = 9
REFUSAL: Final = 10

# Parent to worker: the datagram carries the descriptors of the request with this number.
DESCRIPTORS: Final = 11

# What `List` asks for, besides the kinds of exports.
REGISTERED_MODULES: Final = 4

# Requests inside of a host call are numbered from here upwards.
NESTED: Final = 1 << 62

# How a host function ended.
RETURNED: Final = 0
TERMINATED: Final = 1
RAISED: Final = 2


class ProtocolError(Exception):
    """The other side sent something it must not."""


# A wasm value on the wire, see `wasmedge_pool.values`. A reference is a pair: what kind, and which.
Value: TypeAlias = int | float | bytes | tuple[int, int] | None

# The types of values that are not vectors or references.
SCALARS = frozenset({int, float, type(None)})

# The kinds of references: an object of the parent; a function by its address in the worker's
# store; from the parent only, a host function by its number; and from the worker only, a number
# that was passed for a reference: the parent did not know that, so it is no object of its own. An
# integer is unsigned here, a float its 64 bits.
OBJECT: Final = 0
FUNCTION: Final = 1
HOST_FUNCTION: Final = 2
INTEGER: Final = 3
FLOAT: Final = 4

# --- The records. `id` is a request's number; `vm` names one of the worker's VMs. ---------------


class Hello(NamedTuple):
    """Parent: the first message. Records below `log_level` are not sent back."""

    version: int
    log_level: int


class Ready(NamedTuple):
    """Worker: the answer to `Hello`, once the engine is loaded."""

    version: int
    pid: int


class Chunk(NamedTuple):
    """Parent: a piece of the bytes that the request after it uses; offset 0 begins anew."""

    offset: int
    data: bytes


class Follow(NamedTuple):
    """Parent: read the cache of compiled code from now on, and never write it. Not answered.

    `folder` is where it is, if not where the environment says.
    """

    folder: bytes | None


class Compile(NamedTuple):
    """Parent, to a compile process: make all code of the module in the chunks.

    `config` is from `wasmedge_pool.settings`; `folder` as in `Follow`, but to write to; with
    `background` 1, with the processor time that nobody else needs. Answered by `Progress`, any
    number of times, and a `Result` without values.
    """

    id: int
    config: tuple[Any, ...]
    folder: bytes | None
    background: int


class Want(NamedTuple):
    """Parent, to a compile process: what a worker said in `Wanted`. Not answered."""

    digest: bytes
    functions: tuple[int, ...]


class CreateVM(NamedTuple):
    """Parent: make a VM; `config` is from `wasmedge_pool.settings`.

    With `fresh` 1, every call runs on an instance that no call has used; with 0 state is kept.
    """

    id: int
    vm: int
    config: tuple[Any, ...]
    fresh: int


class Load(NamedTuple):
    """Parent: load a module from a file (an absolute path) or, without one, from the chunks."""

    id: int
    vm: int
    path: bytes | None


class Register(NamedTuple):
    """Parent: instantiate a module under a name, from a file or the chunks."""

    id: int
    vm: int
    name: str
    path: bytes | None


class Validate(NamedTuple):
    """Parent: validate the loaded module."""

    id: int
    vm: int


class Instantiate(NamedTuple):
    """Parent: instantiate the validated module."""

    id: int
    vm: int


class Cleanup(NamedTuple):
    """Parent: drop all modules."""

    id: int
    vm: int


class Call(NamedTuple):
    """Parent: call a function, of a registered module unless `module` is nil.

    `timeout` is in microseconds of running time; nil is none.
    """

    id: int
    vm: int
    module: str | None
    function: str
    arguments: tuple[Value, ...]
    timeout: int | None


class Run(NamedTuple):
    """Parent: load, validate, instantiate and call, from a file or the chunks."""

    id: int
    vm: int
    path: bytes | None
    function: str
    arguments: tuple[Value, ...]
    timeout: int | None


class GetFunctionList(NamedTuple):
    """Parent: answered by `Items` and a `Result` without values."""

    id: int
    vm: int


class GetFunctionType(NamedTuple):
    """Parent: answered by `Items` with at most one item, and a `Result` without values."""

    id: int
    vm: int
    module: str | None
    function: str


class GetCodeStatus(NamedTuple):
    """Parent: answered by a `Result` with the fields of a `CodeStatus`, the state as the position
    in `CodeState`; without values when nothing is instantiated."""

    id: int
    vm: int


class RegisterImport(NamedTuple):
    """Parent: register a host module.

    `functions` are the host functions that the module has or refers to, as (number, parameters,
    results, cost, place): the place is where a function that runs in the worker is imported from
    ("package.module:function"), nil for one that the parent runs. `exports` are (name, kind,
    fields), by kind: a function's number; a table's reference type, minimum, maximum and elements;
    a memory's minimum, maximum and size in bytes of its content, which travels before in the
    chunks; a global's value type, mutability and value.
    """

    id: int
    vm: int
    name: str
    functions: tuple[Any, ...]
    exports: tuple[Any, ...]


class Find(NamedTuple):
    """Parent: look an export up, in a registered module unless `module` is nil.

    Answered by a `Result` with a handle and what describes the type (see `wasmedge_pool.handles`),
    or without values; for a function, `Items` with its type come first.
    """

    id: int
    vm: int
    kind: int
    module: str | None
    name: str


class List(NamedTuple):
    """Parent: the names of the exports of a kind, or with kind 4 of the registered modules.

    Answered by `Items` and a `Result` without values.
    """

    id: int
    vm: int
    kind: int
    module: str | None


class Operate(NamedTuple):
    """Parent: do something with what a handle stands for; see `wasmedge_pool.handles`."""

    id: int
    vm: int
    handle: int
    operation: int
    arguments: tuple[Value, ...]


class CallHandle(NamedTuple):
    """Parent: call the function that a handle stands for, as `Call`."""

    id: int
    vm: int
    handle: int
    arguments: tuple[Value, ...]
    timeout: int | None


class CallBindgen(NamedTuple):
    """Parent: make a wasm-bindgen call, of a registered module unless `module` is nil.

    `kind` is a `BindgenReturn`; what is `passed` is from `wasmedge_pool.bindgen`, the bytes among
    it in the chunks. Answered by a `Result` with the number, if it gives one; bytes come before, in
    `Data`, `most` of them.
    """

    id: int
    vm: int
    module: str | None
    function: str
    kind: int
    passed: tuple[tuple[int, int], ...]
    most: int
    timeout: int | None


class ReadMemory(NamedTuple):
    """Parent: answered by `Data` in pieces, and a `Result` without values."""

    id: int
    vm: int
    handle: int
    offset: int
    length: int


class WriteMemory(NamedTuple):
    """Parent: write the chunks into a memory."""

    id: int
    vm: int
    handle: int
    offset: int


class Release(NamedTuple):
    """Parent: forget handles. Not answered."""

    vm: int
    handles: tuple[int, ...]


class GetStatistics(NamedTuple):
    """Parent: answered by a `Result` with the counters, see `wasmedge_pool.statistics`."""

    id: int
    vm: int


class SetStatistics(NamedTuple):
    """Parent: set the cost limit unless nil, the cost table (8 bytes for each opcode, big-endian,
    in the chunks) if `table` is 1, the counters to 0 if `clear` is 1."""

    id: int
    vm: int
    limit: int | None
    table: int
    clear: int


class InitWasi(NamedTuple):
    """Parent: give the VM's WASI program its world, and with `register` 1 give WASI to a VM that
    has none. The three descriptors of the standard streams come on the control socket, with the
    request's number."""

    id: int
    vm: int
    register: int
    args: tuple[str, ...]
    envs: tuple[str, ...]
    preopens: tuple[str, ...]
    allow_sockets: tuple[str, ...]


class GetExitCode(NamedTuple):
    """Parent: answered by a `Result` with the exit code of the VM's WASI program; without values
    when the VM has no WASI."""

    id: int
    vm: int


class InitCommands(NamedTuple):
    """Parent: say which commands the VM's programs may run, and in which folder; with `register` 1
    give `wasmedge_process` to a VM that does not have it."""

    id: int
    vm: int
    register: int
    allowed: tuple[str, ...]
    allow_all: int
    folder: bytes


class HasHost(NamedTuple):
    """Parent: answered by a `Result` with 1 if the VM has the host module of a `HostRegistration`,
    else 0."""

    id: int
    vm: int
    host: str


class Spawn(NamedTuple):
    """Parent: run a WASI program, from a file or the chunks, with its standard streams as for
    `InitWasi`; answered by a `Result` with its exit code, when it has ended."""

    id: int
    vm: int
    path: bytes | None
    args: tuple[str, ...]
    envs: tuple[str, ...]
    preopens: tuple[str, ...]
    allow_sockets: tuple[str, ...]


class DropVM(NamedTuple):
    """Parent: end a VM; its number is not used again."""

    id: int
    vm: int


class Share(NamedTuple):
    """Parent: load, validate and instantiate the module that the VM `source` has loaded."""

    id: int
    vm: int
    source: int


class Broadcast(NamedTuple):
    """Parent: a `Call` after which the instance is as all later calls are to find it."""

    id: int
    vm: int
    function: str
    arguments: tuple[Value, ...]
    timeout: int | None


class Batch(NamedTuple):
    """Parent: `calls` calls of one function; `arguments` are those of all of them.

    Answered by `BatchError` for each call that failed, `BatchResults`, and a `Result` without
    values. The worker stops after `errors` failures, and when it has taken long enough.
    `timeout` is for each call.
    """

    id: int
    vm: int
    function: str
    calls: int
    arguments: tuple[Value, ...]
    errors: int
    timeout: int | None


class BatchError(NamedTuple):
    """Worker: the call at a place of a batch failed, see `Failure`; or a host function ended it,
    without results: then `error` is empty."""

    id: int
    place: int
    error: tuple[Any, ...]


class BatchResults(NamedTuple):
    """Worker: that many calls of a batch have ended, from the first.

    `kinds` are the codes of the types of a call's results, `data` has 8 bytes for each result of
    each call, in the machine's order. Nothing was called if a result has a type that is no number.
    """

    id: int
    done: int
    kinds: bytes
    data: bytes


class HostReply(NamedTuple):
    """Parent: how a host function has ended: `outcome` is `RETURNED`, `TERMINATED` or `RAISED`."""

    call: int
    outcome: int
    values: tuple[Value, ...]


class Within(NamedTuple):
    """Parent: the next request is made by a host function whose call is open: it runs at once,
    inside of that call. Its number is above `NESTED`."""

    call: int


class Result(NamedTuple):
    """Worker: the request is done.

    `state` is the VM's state after it, `spent` the nanoseconds that it ran.
    """

    id: int
    state: int
    spent: int
    values: tuple[Value, ...]


class Data(NamedTuple):
    """Worker: part of an answer: bytes."""

    id: int
    data: bytes


class HostCall(NamedTuple):
    """Worker: a guest calls a host function of the parent, in request `id`; it waits for the
    `HostReply` to `call`, a number that goes upwards. `memory` is 1 if the caller has one."""

    id: int
    call: int
    function: int
    memory: int
    arguments: tuple[Value, ...]


class Unreferenced(NamedTuple):
    """Worker: objects of the parent that nothing here refers to any more, as (number, how often it
    had arrived): the parent may have sent it again since."""

    objects: tuple[Any, ...]


class Progress(NamedTuple):
    """Compile process: how far it has come: the fields of a `CodeStatus`, the state as the position
    in `CodeState`."""

    id: int
    state: int
    functions: int
    baseline: int
    optimized: int
    from_cache: int


class Wanted(NamedTuple):
    """Worker, at any time: functions of the module that `digest` names needed code, and there was
    none in the cache."""

    digest: bytes
    functions: tuple[int, ...]


class Items(NamedTuple):
    """Worker: part of an answer: functions as (name, parameters, results).

    The types are one byte each, the codes of the binary format.
    """

    id: int
    items: tuple[tuple[str, bytes, bytes], ...]


class Failure(NamedTuple):
    """Worker: the request failed; `error` is from `wasmedge_pool.errors`, the rest as `Result`."""

    id: int
    state: int
    spent: int
    error: tuple[Any, ...]


class Skipped(NamedTuple):
    """Worker: what stands in the place of the answer to a request that did not begin.

    It says the same as the datagram `SKIPPED`, which came earlier but may be read later.
    """

    id: int


class Log(NamedTuple):
    """Worker: a log record of the engine."""

    logger: str
    level: int
    text: str


Message: TypeAlias = (
    Hello
    | Ready
    | Chunk
    | Follow
    | Compile
    | Want
    | CreateVM
    | Load
    | Register
    | Validate
    | Instantiate
    | Cleanup
    | Call
    | Run
    | GetFunctionList
    | GetFunctionType
    | GetCodeStatus
    | RegisterImport
    | Find
    | List
    | Operate
    | CallHandle
    | CallBindgen
    | ReadMemory
    | WriteMemory
    | Release
    | GetStatistics
    | SetStatistics
    | InitWasi
    | InitCommands
    | HasHost
    | GetExitCode
    | Spawn
    | DropVM
    | Share
    | Broadcast
    | Batch
    | HostReply
    | Within
    | BatchError
    | BatchResults
    | Result
    | Data
    | HostCall
    | Unreferenced
    | Progress
    | Wanted
    | Items
    | Failure
    | Skipped
    | Log
)

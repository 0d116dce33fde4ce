"""Check untrusted pickles before torch reads them.

With `weights_only`, torch runs no code in a .pth file, but it trusts the sizes in the file: tensor sizes, unpacked
sizes of zip entries, depth of nested tuples. A file of a few kilobytes can therefore use all memory or hours of time.
This module follows the opcodes without creating objects, and compares the sizes in the file with the bytes of the file.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import tarfile
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Collection, Sequence
from math import prod
from pathlib import Path
from typing import IO, Any, NamedTuple

MOST_STEPS = 1_000_000  # opcodes; a checkpoint with its optimizer has about 100,000
MOST_ENTRIES = 100_000  # entries of a zip file
HEAVIEST, DEEPEST = 1_000_000, 100  # largest number of tuples in a tuple, and deepest nesting
UNSTORED = 2**27  # largest number of repeated elements, as in expanded tensors
LEGACY_PICKLES = 5  # magic number, version, machine, content, names of storages

SIZES = {
    **dict.fromkeys(("Byte", "Char", "Bool", "Untyped", "QInt8", "QUInt8", "QUInt4x2", "QUInt2x4"), 1),
    **dict.fromkeys(("Half", "BFloat16", "Short"), 2),
    **dict.fromkeys(("Float", "Int", "QInt32"), 4),
    **dict.fromkeys(("Double", "Long", "ComplexFloat"), 8),
    "ComplexDouble": 16,
}  # bytes of an element in torch's typed storages
TENSOR = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
WRAPPED = "torch._tensor._rebuild_from_type_v2"  # (function, type, arguments, state)
CALLS = frozenset(
    {
        *TENSOR,
        WRAPPED,
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_parameter_with_state",
        "torch.Size",
        "torch.device",
        "torch.nn.parameter.Parameter",
        "collections.OrderedDict",
        "collections.Counter",
        "builtins.set",
        "builtins.complex",
        "builtins.bytearray",
        "_codecs.encode",
    }
)
OTHER = object()  # any other object
MARK = object()


class Refused(pickle.UnpicklingError):
    """Raised for a rejected pickle. The message continues after the path."""


class _Name(NamedTuple):
    """A class or function named in the file."""

    path: str


class _Tuple(NamedTuple):
    items: Sequence[Any]
    weight: int
    depth: int


class _Storage(NamedTuple):
    """A storage with `numbers` elements, for one or several tensors."""

    numbers: int


class Survey(NamedTuple):
    """Content of a pickle. storages: size in bytes by name."""

    storages: dict[str, int]


def check_torch_file(path: Path, notes: Collection[str] = ()) -> None:
    """Compare the sizes that a .pth file states with its bytes. The file may be a zip file or an older format.

    notes: further allowed classes and functions, which the reader replaces by a harmless class. Raises Refused, or any
    exception for a damaged file.
    """
    with path.open("rb") as file:
        head = file.read(4)
        if head == b"PK\x03\x04":
            _check_zip(path, notes)
            return
        if tarfile.is_tarfile(path):  # torch would unpack a tar file to the disk
            raise Refused("a tar file of an old torch; save it anew")
        file.seek(0)
        storages: dict[str, int] = {}
        for _ in range(LEGACY_PICKLES):
            storages |= survey(file, notes).storages
        if sum(storages.values()) > path.stat().st_size:
            raise Refused("it states larger tensors than it holds")


def _check_zip(path: Path, notes: Collection[str]) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        sizes = {entry.filename: entry.file_size for entry in entries}
        if len(entries) > MOST_ENTRIES or len(sizes) < len(entries):
            raise Refused("too many entries, or two of one name")
        if any(
            entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size for entry in entries
        ):
            raise Refused("a zip file with compressed entries, unlike torch's; unpack it and zip it with -0")
        if sum(sizes.values()) > path.stat().st_size:
            raise Refused("its zip entries state more bytes than it has")
        for name in [name for name in sizes if name.rpartition("/")[2] == "data.pkl"]:
            stored = survey(io.BytesIO(archive.read(name)), notes).storages
            folder = name.removesuffix("data.pkl")
            if any(sizes.get(f"{folder}data/{key}", 0) < size for key, size in stored.items()):
                raise Refused("it states larger tensors than it holds")


def survey(stream: IO[bytes], notes: Collection[str] = ()) -> Survey:
    """Follow one pickle of `stream` to its end. Raises Refused, or ValueError for data that is not a pickle."""
    return _Follower(notes).follow(stream)


class _Follower:
    """A pickle machine. Its stack holds numbers, strings and tuples, and OTHER for all other objects."""

    def __init__(self, notes: Collection[str]) -> None:
        self.notes = notes
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, int] = {}
        self.unstored = 0

    def follow(self, stream: IO[bytes]) -> Survey:
        for step, (opcode, argument, position) in enumerate(pickletools.genops(stream)):
            if step > MOST_STEPS:
                raise Refused(f"more than {MOST_STEPS:,} steps")
            self._step(opcode, argument, position or 0)
        return Survey(self.storages)

    def _step(self, opcode: pickletools.OpcodeInfo, argument: Any, position: int) -> None:
        name = opcode.name
        if name in {"PROTO", "FRAME", "STOP"}:
            return
        if name in {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}:
            index = len(self.memo) if name == "MEMOIZE" else argument
            if not 0 <= index <= position:
                raise Refused("a memo of absurd size")
            self.memo[index] = self.stack[-1]
        elif name in {"GET", "BINGET", "LONG_BINGET"}:
            self.stack.append(self.memo[argument])
        elif name == "DUP":
            self.stack.append(self.stack[-1])
        elif name in REFUSED:
            raise Refused(f"the step {name}")
        else:
            self._make(opcode, argument)

    def _make(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        """Pop the inputs of an opcode from the stack and push its outputs."""
        name, before = opcode.name, opcode.stack_before
        if pickletools.markobject in before:
            taken = self._take_to_mark()
            fixed = before.index(pickletools.markobject)  # number of inputs below the mark
        else:
            fixed, taken = len(before), []
        taken = [*[self.stack.pop() for _ in range(fixed)][::-1], *taken]
        if name == "MARK":
            self.stack.append(MARK)
        elif name == "GLOBAL":
            self.stack.append(self._name(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            self.stack.append(self._name(*map(str, taken)))
        elif name in {"REDUCE", "NEWOBJ"}:
            self.stack.append(self._call(*taken))
        elif name == "BINPERSID":
            self.stack.append(self._storage(taken[0]))
        elif name == "BUILD":
            self.stack.append(taken[0])
        elif "TUPLE" in name:
            self.stack.append(_tuple(taken))
        elif name not in {"POP", "POP_MARK"}:
            self.stack += [CONSTANTS.get(name, OTHER if before else argument)] * len(opcode.stack_after)

    def _take_to_mark(self) -> list[Any]:
        place = next(index for index in reversed(range(len(self.stack))) if self.stack[index] is MARK)
        taken = self.stack[place + 1 :]
        del self.stack[place:]
        return taken

    def _name(self, module: str, name: str) -> _Name:
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))  # names of Python 2
        path = f"{module}.{name}"
        storage = module in {"torch", "torch.storage", "torch.cuda"} and name.removesuffix("Storage") in SIZES
        kind = module == "torch" and name.isalnum() and name[-1].isdigit()  # float32, int64 …
        if not (path in CALLS or path in self.notes or storage or kind or path in NAMES):
            raise Refused(f"it names {path:.80}")
        return _Name(path)

    def _call(self, function: Any, arguments: Any) -> Any:
        path = function.path if isinstance(function, _Name) else ""
        items = arguments.items if isinstance(arguments, _Tuple) else ()
        if path in self.notes:
            return OTHER
        if path not in CALLS:
            raise Refused(f"it calls {path or 'no function':.80}")
        if path == WRAPPED:
            return self._call(items[0], items[2])
        if path in TENSOR:
            self._check_tensor(*items[:4])
        if path == "builtins.bytearray" and items and not isinstance(items[0], bytes | str):
            raise Refused("a bytearray of a stated size")
        if path == "_codecs.encode" and items[1:] not in ((), ("latin1",), ("latin-1",)):
            raise Refused("bytes in a strange encoding")
        # a torch.Size hashes like its tuple
        return arguments if path == "torch.Size" else OTHER

    def _storage(self, words: Any) -> _Storage:
        kind, key, _, count = words.items[1:5]
        size = SIZES[kind.path.rpartition(".")[2].removesuffix("Storage")]
        if not isinstance(key, str) or type(count) is not int or count < 0:
            raise Refused("a storage without a name or a size")
        self.storages[key] = max(self.storages.get(key, 0), count * size)
        return _Storage(count)

    def _check_tensor(self, storage: Any, offset: Any, shape: Any, strides: Any) -> None:
        """Check that a tensor lies within its storage and does not repeat too many elements."""
        numbers = [offset, *shape.items, *strides.items]
        if not isinstance(storage, _Storage) or any(type(number) is not int or number < 0 for number in numbers):
            raise Refused("a tensor without numbers")
        count = prod(shape.items)
        reach = offset + sum((size - 1) * step for size, step in zip(shape.items, strides.items, strict=True)) + 1
        if count and reach > storage.numbers:
            raise Refused("a tensor reaches beyond its numbers")
        self.unstored += max(count - storage.numbers, 0)
        if self.unstored > UNSTORED:
            raise Refused("tensors far larger than what is stored of them")


def _tuple(items: list[Any]) -> _Tuple:
    inner = [item for item in items if isinstance(item, _Tuple)]
    made = _Tuple(
        tuple(items), 1 + sum(item.weight for item in inner), 1 + max((item.depth for item in inner), default=0)
    )
    if made.weight > HEAVIEST or made.depth > DEEPEST:
        raise Refused("tuples in tuples without end")
    return made


CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
NAMES = frozenset({"torch.bool", "torch.half", "torch.float", "torch.double", "torch.int", "torch.long"})
REFUSED = frozenset(
    {"INST", "OBJ", "EXT1", "EXT2", "EXT4", "PERSID", "NEWOBJ_EX", "FROZENSET", "NEXT_BUFFER", "READONLY_BUFFER"}
)

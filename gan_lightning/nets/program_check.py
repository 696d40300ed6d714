"""A look into a file of torch.export before torch loads it: what in it could run code."""

import ast
import json
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch

_WORD = re.compile(r"[\w.\-]*")
"""A text that torch may write into the Python code of a graph."""

_NUMBERS_OPERATOR = re.compile(
    r"_operator\.(eq|ne|le|ge|lt|gt|neg|pos|abs|not_|mul|add|sub|floordiv|truediv|mod|pow|and_|or_|xor|lshift|rshift"
    r"|getitem)|math\.[a-z]\w*|torch\._?sym_\w+"
)
"""Targets that compute with sizes."""

_SUBGRAPHS = {
    "associative_scan", "cond", "invoke_subgraph", "map_impl", "scan", "strict_mode", "while_loop",
    "wrap_with_autocast", "wrap_with_set_grad_enabled",
}  # fmt: skip
"""Operators of `torch.ops.higher_order` that only run other graphs of the same file."""

_FUNCTIONS = {
    "Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Abs", "Max", "Min", "Mod", "floor", "ceiling",
    "Equality", "Unequality", "StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan", "Eq", "Ne", "Lt", "Le",
    "Gt", "Ge", "And", "Or", "Not", "Xor", "Piecewise", "ExprCondPair", "Tuple", "BooleanTrue", "BooleanFalse",
    "sqrt", "log", "exp", "FloorDiv", "ModularIndexing", "Where", "PythonMod", "CleanDiv", "CeilToInt", "FloorToInt",
    "CeilDiv", "LShift", "RShift", "PowByNatural", "FloatPow", "FloatTrueDiv", "IntTrueDiv",
    "IsNonOverlappingAndDenseIndicator", "TruncToFloat", "TruncToInt", "RoundToInt", "RoundDecimal", "ToFloat",
    "Identity", "int", "float", "bool", "abs", "min", "max",
}  # fmt: skip
"""Functions that an expression of sizes may call."""

_OF_TENSORS = {"size", "stride", "storage_offset", "item", "dim", "numel"}
"""Methods of an input that a condition on its sizes may call."""

_PLAIN = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Constant, ast.Name, ast.Load,
    ast.Call, ast.keyword, ast.Tuple, ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip

_CONTAINERS = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}
"""Types around inputs and outputs, as a file names them; None is a tensor."""


def code_in(file: Path) -> str | None:
    """Return the part of a `.pt2` file that could run code when torch loads or runs the program; None without any.

    - Weights and constants are plain bytes, unless the archive says otherwise. Example inputs are files of
      `torch.save`. If such a file does not load as tensors, torch loads it with whatever code stands in it.
    - Compiled code would be loaded.
    - A graph is text. torch looks its operators up by name, evaluates its expressions, and writes its names into Python
      code.

    Not promised: an operator of torch, or of a package that is imported, may do more than compute (`aten.from_file`
    opens a file), and torch reads the archive itself, by rules that only resemble those of Python's zipfile.

    Raises:
        ValueError: A part is not JSON where it has to be.
    """
    if not is_zipfile(file):
        return None  # torch says what is wrong
    with ZipFile(file) as archive:
        parts = archive.infolist()
        names = [part.orig_filename for part in parts]
        lowered = {name.lower() for name in names}
        if len(lowered) < len(names):
            return "two parts with the same name"
        for name in names:
            if not re.fullmatch(r"[\x20-\x5b\x5d-\x7e]+", name):
                return f"a part with the name {name!r}"
            if found := _code_in_part(name.lower(), archive.read(name)):
                return f"{name}{found}"
    return None


def _code_in_part(name: str, content: bytes) -> str:
    """Return what could run code in a part of an archive, behind a colon, or a blank if it is the whole; else ''."""
    if "/aotinductor/" in name:
        return " "
    if name.endswith((".pt", ".pkl")):
        try:
            torch.load(BytesIO(content), weights_only=True, map_location="cpu")
        except Exception:  # anything may stand there
            return " "
    elif name.endswith("_config.json"):
        entries: Any = json.loads(content.decode()).get("config", {})
        paths = [(str(each.get("path_name")), each.get("use_pickle")) for each in entries.values()]
        if any(pickled or not path.startswith(("weight_", "tensor_")) for path, pickled in paths):
            return " "
    elif re.search(r"(^|/)models/", name) or (name.endswith(".json") and "/extra/" not in name):
        for found in _code_in_graph(json.loads(content.decode())):
            return f": {found[:300]!r}"
    return ""


def _code_in_graph(content: Any, key: str = "", in_node: bool = False) -> Iterator[str]:
    """Yield the texts of a program that are more than plain names, plain arithmetic, or known operators.

    Args:
        content: Any part of its JSON.
        key: Under which it stands.
        in_node: Whether it belongs to a node; texts among a node's arguments stay texts.
    """
    if isinstance(content, dict):
        for name, value in content.items():
            if not _WORD.fullmatch(name):
                yield name
            if name == "metadata" and in_node:
                continue  # notes, which nothing evaluates
            yield from _code_in_graph(value, name, in_node)
    elif isinstance(content, list):
        for value in content:
            if key == "nodes" and isinstance(value, dict) and not _is_operator(str(value.get("target"))):
                yield str(value.get("target"))
            yield from _code_in_graph(value, key, in_node or key == "nodes")
    elif isinstance(content, str) and not _is_harmless(content, key, in_node):
        yield content


def _is_harmless(text: str, key: str, in_node: bool) -> bool:
    match key:
        case "expr_str" | "guards_code":
            return _is_arithmetic(text, of_inputs=key == "guards_code")
        case "as_operator":
            return _is_operator(text)
        case "in_spec" | "out_spec":
            return text == "" or _is_plain_tree(json.loads(text)[1])
        case "as_string" | "as_strings" if in_node:
            return True
        case "torch_version":
            return re.fullmatch(r"[\w.+\-]*", text) is not None
    return _WORD.fullmatch(text) is not None


def _is_operator(target: str) -> bool:
    """Return whether a graph may call what torch finds under this name."""
    if _NUMBERS_OPERATOR.fullmatch(target):
        return True
    parts = target.split(".")
    if parts[:2] != ["torch", "ops"] or len(parts) not in (4, 5) or not all(part.isidentifier() for part in parts):
        return False
    if parts[2] == "higher_order":
        return len(parts) == 4 and parts[3] in _SUBGRAPHS
    found: Any = torch.ops
    for part in parts[2:]:
        if not hasattr(found, part):
            return not part.startswith("__")  # of a package that is not imported: torch says so
        found = getattr(found, part)
    return isinstance(found, type(torch.ops.aten.add.Tensor))


def _is_arithmetic(text: str, *, of_inputs: bool) -> bool:
    """Return whether a text is arithmetic of names, numbers and known functions.

    Args:
        text: The text.
        of_inputs: Whether it may ask inputs for their sizes, too, such as `L['x'].size()[0] >= 2`.
    """
    if re.search(r"[#\\\n\r]|__", text):
        return False
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str() as word) if not _WORD.fullmatch(word):
                return False
            case ast.Call(func=ast.Name(id=name)) if name not in _FUNCTIONS:
                return False
            case ast.Call(func=ast.Attribute()) | ast.Subscript() | ast.Attribute() if not of_inputs:
                return False
            case ast.Attribute(value=value, attr=attribute):
                if attribute not in _OF_TENSORS and not (isinstance(value, ast.Name) and value.id == "math"):
                    return False
            case ast.Call(func=func) if not isinstance(func, ast.Name | ast.Attribute):
                return False
            case ast.Subscript():
                pass
            case _ if not isinstance(node, _PLAIN):
                return False
    return True


def _is_plain_tree(tree: Any) -> bool:
    """Return whether inputs or outputs stand in plain containers, whose keys are plain names."""
    context = json.loads(tree["context"]) if isinstance(tree["context"], str) else tree["context"]
    keys = context if isinstance(context, list) else []
    return (
        tree["type"] in _CONTAINERS
        and (context is None or isinstance(context, list))
        and all(isinstance(key, int) or (isinstance(key, str) and re.fullmatch(r"[\w.\- ]*", key)) for key in keys)
        and all(map(_is_plain_tree, tree["children_spec"]))
    )

"""Prints line tables and the lines that the interpreter itself reads from them, one code object a JSON line."""
import argparse
import dis
import json
import sys
import types
import typing


def ranges(code):
    size = len(code.co_code)
    if hasattr(code, "co_lines"):
        return [(start, line) for start, _, line in code.co_lines()], size
    return list(dis.findlinestarts(code)), size


def describe(code):
    table = getattr(code, "co_linetable", None) if sys.version_info >= (3, 10) else code.co_lnotab
    starts, size = ranges(code)
    return {"first_line": code.co_firstlineno, "table": list(table), "starts": starts, "size": size}


def codes(code):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)


found = []
for module in (argparse, typing, dis):
    with open(module.__file__, encoding="utf-8") as file:
        found += [describe(code) for code in codes(compile(file.read(), module.__file__, "exec"))]
print(json.dumps({"minor": sys.version_info[1], "codes": found}), flush=True)

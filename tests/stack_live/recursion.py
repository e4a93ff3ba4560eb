"""Threads in random recursion round two rings of functions: a ring's function number 0 calls only number 1 and so on.

The frames of one ring have equal sizes, so that a frame often takes the very place of another function's; those of the
other have different sizes, so that old frames are cut by new ones."""
import json
import os
import random
import sys
import threading

RING = 7
SOURCE = """
def {ring}{this}(depth, choose):
    {locals}
    mark = depth * 1000003
    if depth > 0:
        if choose() < 0.5:
            {ring}{next}(depth - 1, choose)
        {ring}{next}(depth - int(choose() * 3), choose)
    return mark
"""


def ring(name, size):
    functions = {}
    for this in range(RING):
        variables = "".join(f"v{number} = " for number in range(size(this))) + "depth"
        source = SOURCE.format(ring=name, this=this, next=(this + 1) % RING, locals=variables)
        exec(compile(source, "ring.py", "exec"), functions)
    return [functions[f"{name}{this}"] for this in range(RING)]


def work(functions):
    while True:
        functions[int(choose() * RING)](int(choose() * 40), choose)


choose = random.Random(1).random
sys.setrecursionlimit(5000)
rings = [ring("equal", lambda number: 1), ring("other", lambda number: 1 + number * 3 % RING)]
threads = [threading.Thread(target=work, args=(functions,), daemon=True) for functions in rings]
for thread in threads:
    thread.start()
print(json.dumps([thread.native_id for thread in threads]), flush=True)
sys.stdin.read()
os._exit(0)

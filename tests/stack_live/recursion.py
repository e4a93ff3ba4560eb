"""Two threads in random recursion in which f0 calls only f1, f1 only f2, and so on, round a ring of functions."""
import json
import os
import random
import sys
import threading

RING = 7
SOURCE = """
def f{this}(depth, choose):
    mark = depth * 1000003
    if depth > 0:
        if choose() < 0.5:
            f{next}(depth - 1, choose)
        f{next}(depth - int(choose() * 3), choose)
    return mark
"""
for number in range(RING):
    exec(compile(SOURCE.format(this=number, next=(number + 1) % RING), "ring.py", "exec"))


def work():
    choose = random.Random().random
    while True:
        f0(int(choose() * 40), choose)


sys.setrecursionlimit(5000)
threads = [threading.Thread(target=work, daemon=True) for _ in range(2)]
for thread in threads:
    thread.start()
print(json.dumps([thread.native_id for thread in threads]), flush=True)
sys.stdin.read()
os._exit(0)

"""A thread whose calls go through C again and again; prints its id, and its functions with whether C code called them.

Which calls take a detour through C in which version was counted with a debugger: as many frames of
_PyEval_EvalFrameDefault as there are marks."""
import functools
import json
import os
import sys
import threading
import time

NEW, NEWER = sys.version_info >= (3, 11), sys.version_info >= (3, 12)
EXPECTED = [
    ("by_map", not NEWER),
    ("mapped", True),
    ("by_sort", not NEW),
    ("key", True),
    ("by_reduce", not NEW),
    ("reduced", True),
    ("by_getattr", not NEW),
    ("__getattr__", True),
    ("by_init", not NEW),
    ("__init__", True),
    ("by_hot_init", not NEW),
    ("__init__", sys.version_info < (3, 13)),
    ("by_generator", not NEW),
    ("generator", True),
    ("by_hot_generator", not NEW),
    ("hot_generator", not NEWER),
    ("leaf", not NEW),
]
HOT = 5000


class Named:
    def __getattr__(self, name):
        return by_init()


class Made:
    def __init__(self):
        by_hot_init(False)


class Hot:
    def __init__(self, is_last):
        if is_last:
            by_generator()


def by_map():
    list(map(mapped, [1]))


def mapped(_):
    by_sort()


def by_sort():
    sorted([1], key=key)


def key(_):
    by_reduce()


def by_reduce():
    functools.reduce(reduced, [1, 2])


def reduced(_, __):
    by_getattr()


def by_getattr():
    Named().anything


def by_init():
    Made()


def by_hot_init(_):
    for number in range(HOT):
        Hot(number == HOT - 1)


def by_generator():
    list(generator())


def generator():
    by_hot_generator()
    yield


def by_hot_generator():
    for _ in hot_generator():
        pass


def hot_generator():
    for number in range(HOT):
        if number == HOT - 1:
            leaf()
        yield number


def leaf():
    asleep.set()
    time.sleep(1000)


asleep = threading.Event()
thread = threading.Thread(target=by_map, daemon=True)
thread.start()
asleep.wait()
time.sleep(0.2)
print(json.dumps([thread.native_id, EXPECTED]), flush=True)
sys.stdin.read()
os._exit(0)

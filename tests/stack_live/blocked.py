"""Threads that block at known places; prints where the interpreter itself says they are, by thread id."""
import json
import os
import sys
import threading
import time

sys.setrecursionlimit(5000)
never = threading.Event()
lock = threading.Lock()
lock.acquire()


def nested(block):
    def inner():
        block()  # inner calls
    inner()


def sleep():
    time.sleep(1000)  # blocks: sleep


def wait():
    never.wait()


def acquire():
    lock.acquire()  # blocks: acquire


def numbers():
    for number in range(3):
        if number == 2:
            sleep()
        yield number


def generator():
    return sum(
        number
        for number in numbers()
    )


def comprehension():
    return [
        sleep()
        for _ in range(1)
    ]


def größe():
    sleep()


def decorated(function):
    def wrapper(*arguments):
        return function(*arguments)
    return wrapper


class Worker:
    @decorated
    def method(self):
        self.nested_call(lambda: sleep())

    def nested_call(self, call):
        try:
            call()
        finally:
            pass

    def __lt__(self, other):
        sleep()


def through_native_code():
    sorted([Worker(), Worker()])


def recurse(depth):
    if depth == 0:
        sleep()
    else:
        recurse(depth - 1)


def long_lines():
    value = 0

    # A jump of more than 127 lines does not fit one step of a line table.
































































































































    value += 1
    sleep()


CALLS = [sleep, wait, acquire, generator, comprehension, größe, Worker().method, through_native_code, long_lines,
         lambda: nested(sleep), lambda: recurse(1000), lambda: exec("\n\nsleep()")]


def name(code):
    return getattr(code, "co_qualname", code.co_name)


def stacks(tids):
    result = {}
    for ident, frame in sys._current_frames().items():
        frames = []
        while frame is not None:
            frames.append((name(frame.f_code), frame.f_code.co_filename, frame.f_lineno))
            frame = frame.f_back
        if ident in tids:
            result[tids[ident]] = frames[::-1]
    return result


threads = [threading.Thread(target=call, daemon=True) for call in CALLS]
for thread in threads:
    thread.start()
tids = {thread.ident: thread.native_id for thread in threads}
seen = None
while seen != stacks(tids):
    seen = stacks(tids)
    time.sleep(0.2)
print(json.dumps(list(seen.items())), flush=True)
sys.stdin.read()
os._exit(0)

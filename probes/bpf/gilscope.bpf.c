/*
 * The in-kernel half of the uprobe source: what happens at a hit of a probe, and at a tick of the sampling clock.
 *
 * A thread that is stopped by a probe or a tick does not change its frames, so its stack is read here, by itself, and is
 * exact. Nothing here knows a version of a runtime: all offsets come from `config`. What a call means is decided in user
 * space; here only what decides whether a stack is worth its price is kept: who waits, and since when a lock is held.
 *
 * Invariant: the target is never changed and never waits; what does not fit into the ring is counted in `losses`.
 *
 * Rebuild gilscope.bpf.o with probes/bpf/build after every change.
 */
#include <linux/ptrace.h>

#include "model.h"
#include "walk.h"

struct map {
	u32 type;
	u32 key_size;
	u32 value_size;
	u32 entries;
	u32 flags;
};

struct map SEC("maps") config = { BPF_MAP_TYPE_ARRAY, sizeof(u32), sizeof(struct config), 1, 0 };
struct map SEC("maps") events = { BPF_MAP_TYPE_RINGBUF, 0, 0, 16 << 20, 0 };
struct map SEC("maps") losses = { BPF_MAP_TYPE_ARRAY, sizeof(u32), sizeof(u64), 1, 0 };
struct map SEC("maps") roles = { BPF_MAP_TYPE_HASH, sizeof(u64), sizeof(struct role), 4096, 0 };
struct map SEC("maps") foreign = { BPF_MAP_TYPE_LRU_HASH, sizeof(u64), sizeof(u64), 16384, 0 };
struct map SEC("maps") books = { BPF_MAP_TYPE_ARRAY, sizeof(u32), sizeof(struct book), 1024, 0 };
struct map SEC("maps") threads = { BPF_MAP_TYPE_HASH, sizeof(u32), sizeof(struct thread), 1 << 16, BPF_F_NO_PREALLOC };
struct map SEC("maps") blank = { BPF_MAP_TYPE_ARRAY, sizeof(u32), sizeof(struct thread), 1, 0 };
struct map SEC("maps") ticking = { BPF_MAP_TYPE_PERCPU_ARRAY, sizeof(u32), sizeof(struct stack), 1, 0 };

char SEC("license") terms[] = "Dual MIT/GPL";

inlined void count_loss(void)
{
	u32 zero = 0;
	u64 *lost = map_lookup(&losses, &zero);

	if (lost)
		__sync_fetch_and_add(lost, 1);
}

/*
 * The time is taken after the place in the ring: whoever finds the ring empty at some moment has seen all calls before
 * that moment.
 */
inlined void report(u32 tid, u8 kind, u64 address)
{
	struct record *record = ring_reserve(&events, sizeof(*record), 0);

	if (!record) {
		count_loss();
		return;
	}
	record->at = now();
	record->tid = tid;
	record->kind = kind;
	record->flags = 0;
	record->count = 0;
	record->address = address;
	ring_submit(record, BPF_RB_NO_WAKEUP);
}

/* Reads the frames of the thread that runs now, whose state `thread` tells, and sends them off. */
inlined void send_stack(const struct config *c, const struct thread *thread, struct stack *stack, u32 tid, u8 kind)
{
	u64 size, owner = 0, state = thread ? thread->state : 0;

	stack->record.tid = tid;
	stack->record.kind = kind;
	stack->record.flags = 0;
	stack->record.count = 0;
	stack->record.address = state;
	/* A state may have been freed and given to another thread. */
	if (!state || word_at(state + c->owner_word, &owner) || owner != thread->owner)
		stack->record.flags = UNKNOWN_THREAD;
	else if (c->runtime == PYTHON)
		walk_python(c, stack, state);
	else
		walk_toy(c, stack, state);
	stack->record.at = now();
	size = stack->record.count;
	if (size > DEEPEST)
		size = DEEPEST;
	size = sizeof(struct record) + size * sizeof(struct frame);
	/* A stack that finds no room is missed, but nothing is wrong without it. */
	ring_output(&events, stack, size, BPF_RB_NO_WAKEUP);
}

inlined int step_of(u64 cookie, u32 part)
{
	if (cookie >= STEPS)
		return cookie - STEPS;
	if (cookie == SIGNAL && part == COND)
		return RELEASED;
	if (cookie == SIGNAL && part == SWITCH_COND)
		return ACQUIRED;
	if (cookie == TIMED_WAIT && part == COND)
		return WANT;
	return OTHER;
}

inlined struct thread *thread_of(u32 tid)
{
	u32 zero = 0;
	struct thread *thread = map_lookup(&threads, &tid);
	void *empty;

	if (thread)
		return thread;
	empty = map_lookup(&blank, &zero);
	if (!empty)
		return 0;
	map_update(&threads, &tid, empty, BPF_NOEXIST);
	return map_lookup(&threads, &tid);
}

/* The lock's last holder is the thread that has just taken it, which is the one that runs now. */
inlined void learn_state(const struct config *c, struct thread *thread, u64 lock)
{
	u64 state = 0;

	if (word_at(lock + c->last_holder, &state) || state == thread->state)
		return;
	if (!word_at(state + c->owner_word, &thread->owner))
		thread->state = state;
}

/* A call on a known lock. */
inlined void on_step(const struct config *c, const struct role *role, u64 cookie, u64 address)
{
	u32 tid = current_id(), number = role->number;
	u64 lock = role->lock;
	int step = step_of(cookie, role->part);
	u8 stack = 0;
	struct book *book = map_lookup(&books, &number);
	struct thread *thread = thread_of(tid);

	if (!book || !thread) {
		report(tid, cookie, address);
		return;
	}
	if (step == RELEASED) {
		/* From inside a timed wait: libc passes on a signal that it has not used. Nobody releases. */
		if (thread->wants == lock)
			return;
		if (book->waiters || (book->since && book->since != kernel_ticks()))
			stack = AT_RELEASE;
	} else if (step == WANT && thread->wants != lock) {
		thread->wants = lock;
		book->waiters++;
		stack = WAIT_BEGAN;
	}
	if (stack && c->runtime)
		send_stack(c, thread, &thread->stack, tid, stack);
	report(tid, cookie, address);
	if (step == RELEASED) {
		book->since = 0;
	} else if (step == ACQUIRED) {
		book->since = kernel_ticks();
		if (thread->wants == lock) {
			thread->wants = 0;
			if (book->waiters)
				book->waiters--;
		}
		if (c->runtime)
			learn_state(c, thread, lock);
	}
}

SEC("uprobe.multi")
int on_call(struct pt_regs *registers)
{
	u32 zero = 0;
	u64 address = registers->rdi;
	u64 cookie = cookie_of(registers);
	struct config *c = map_lookup(&config, &zero);
	struct role *role = map_lookup(&roles, &address);

	if (!c)
		return 0;
	if (role)
		on_step(c, role, cookie, address);
	else if (!map_lookup(&foreign, &address))
		report(current_id(), cookie, address);
	return 0;
}

/*
 * Ticks come twice as often as wanted and count by the toss of a coin, so that they cannot fall into step with the program.
 * For one that counts the kernel then takes along what the clock was opened for, such as the native stack.
 */
SEC("perf_event")
int on_tick(void *context)
{
	u32 zero = 0;
	u64 id = current_id();
	u32 tid = id;
	struct config *c = map_lookup(&config, &zero);
	struct stack *stack;

	if (!c || !c->runtime || id >> 32 != c->process || random_number() & 1)
		return 0;
	stack = map_lookup(&ticking, &zero);
	if (!stack)
		return 0;
	send_stack(c, map_lookup(&threads, &tid), stack, tid, TICK);
	return 1;
}

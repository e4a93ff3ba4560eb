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
#include <linux/bpf.h>
#include <linux/ptrace.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;

#define SEC(name) __attribute__((section(name), used))
#define inlined static inline __attribute__((always_inline))

static void *(*map_lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)BPF_FUNC_map_update_elem;
static u64 (*now)(void) = (void *)BPF_FUNC_ktime_get_ns;
/* Ticks of the kernel's own clock, one every few milliseconds: next to free. */
static u64 (*kernel_ticks)(void) = (void *)BPF_FUNC_jiffies64;
static u64 (*current_id)(void) = (void *)BPF_FUNC_get_current_pid_tgid;
static u64 (*cookie_of)(void *context) = (void *)BPF_FUNC_get_attach_cookie;
static u32 (*random_number)(void) = (void *)BPF_FUNC_get_prandom_u32;
static long (*read_user)(void *into, u64 size, const void *from) = (void *)BPF_FUNC_probe_read_user;
static void *(*ring_reserve)(void *ring, u64 size, u64 flags) = (void *)BPF_FUNC_ringbuf_reserve;
static void (*ring_submit)(void *data, u64 flags) = (void *)BPF_FUNC_ringbuf_submit;
static long (*ring_output)(void *ring, void *data, u64 size, u64 flags) = (void *)BPF_FUNC_ringbuf_output;

/* Frames kept of a stack, innermost first. */
#define DEEPEST 128
/* Frames visited, shims of the interpreter included. */
#define VISITS 256
/* The largest part of a frame that is read. */
#define LARGEST_HEAD 128
/* An offset in `config` that does not exist. */
#define NONE (~0ULL)

/* What the cookie of a probe says: the libc function, or the step that the runtime itself reports. */
enum { SIGNAL, TIMED_WAIT, WAIT, STEPS = 4 };
/* What a call means, as far as it matters here. */
enum { WANT, ACQUIRED, RELEASED, YIELDED, OTHER };
/* What an address is to a lock. */
enum { COND, SWITCH_COND, WHOLE_LOCK };
/* Records that are stacks, beside those of calls, which carry their cookie. */
enum { WAIT_BEGAN = 16, AT_RELEASE, TICK };
/* What is the matter with a stack. */
enum { CUT = 1, BROKEN = 2, UNKNOWN_THREAD = 4 };
/* Runtimes. */
enum { UNKNOWN_RUNTIME, PYTHON, TOYVM };

/* Everything that depends on the target; written by user space once the target is known. All offsets in bytes. */
struct config {
	u64 runtime;
	/* The process whose ticks count. */
	u64 process;
	/* In the lock: the state of the thread that took it last. */
	u64 last_holder;
	/* In a thread's state: the word by which its thread is recognised. */
	u64 owner_word;
	/* In a thread's state: pointer to the innermost frame, or to a C frame with that pointer at `top_inner`. */
	u64 top;
	u64 top_inner;
	/* The part of a frame that is read, and fields inside that part. */
	u64 head_start;
	u64 head_length;
	u64 previous;
	u64 code;
	u64 instruction;
	/* Whether the instruction is a pointer; else it is an index of 32 bits. */
	u64 instruction_wide;
	u64 bytecode_copy;
	u64 owner;
	u64 shim_owners;
	u64 executing;
	u64 executing_value;
	/* In a code object: pointer to the name. */
	u64 name;
	/* Toy VM, in a thread record: how many frames there are, and where. */
	u64 depth;
	u64 frames;
	u64 frame_size;
};

/* A call, or the head of a stack. */
struct record {
	u64 at;
	u32 tid;
	u8 kind;
	u8 flags;
	u16 count;
	u64 address;
};

struct frame {
	/* Pointer to the code object, with the number of the bytecode's copy in the highest 16 bits; or a function's number. */
	u64 code;
	/* Pointer, or index; or a line. */
	u64 instruction;
	/* By which user space knows that the code object is still the same. */
	u64 name;
};

struct stack {
	struct record record;
	struct frame frames[DEEPEST];
	u8 head[LARGEST_HEAD];
	/* In memory, so that the verifier takes it for any number and one round of the walk for the next. */
	volatile u64 visits;
};

struct thread {
	/* Its state in the interpreter, and the word by which the state is recognised as its own. */
	u64 state;
	u64 owner;
	/* The lock that it waits for, or 0. */
	u64 wants;
	u64 reserved;
	/* Of this thread alone: one that is preempted here must find its stack as it left it. */
	struct stack stack;
};

/* What an address is. */
struct role {
	u64 lock;
	u32 number;
	u32 part;
};

/* What is known of a lock; changed only while its mutex is held by the thread that makes the call. */
struct book {
	u64 waiters;
	/* The kernel's ticks when it was taken, or 0. */
	u64 since;
};

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

inlined u64 word_at(u64 address, u64 *word)
{
	return read_user(word, sizeof(*word), (void *)address);
}

inlined u64 word_in(const u8 *head, u64 offset)
{
	return *(const u64 *)(head + (offset & (LARGEST_HEAD - 8)));
}

inlined u32 half_in(const u8 *head, u64 offset)
{
	return *(const u32 *)(head + (offset & (LARGEST_HEAD - 4)));
}

inlined u8 byte_in(const u8 *head, u64 offset)
{
	return head[offset & (LARGEST_HEAD - 1)];
}

/*
 * Leaves the loop it stands in when the kernel finds that enough is enough. The verifier then looks at the loop once or
 * twice instead of at every round of it. Clang 14 does not know the instruction (may_goto, Linux 6.9).
 */
#define may_leave_loop(out) \
	asm volatile goto("1: .byte 0xe5; .byte 0; .long ((%l[" #out "] - 1b - 8) / 8) & 0xffff; .short 0" ::: : out)

/* Shows the verifier a bound that the compiler would leave out, or lose between the check and the use. */
inlined u32 below_deepest(u32 number)
{
	asm volatile("%0 &= %1" : "+r"(number) : "i"(DEEPEST - 1));
	return number;
}

/* Whether the frame whose head was read runs code of the program; a shim of the interpreter does not. */
inlined int is_script(const struct config *c, const u8 *head)
{
	return c->owner == NONE || !(c->shim_owners >> (byte_in(head, c->owner) & 63) & 1);
}

inlined int executes(const struct config *c, const u8 *head)
{
	return c->executing == NONE || byte_in(head, c->executing) == (u8)c->executing_value;
}

/* Copies what matters of one frame; the code object's name pointer tells later whether it is still the same object. */
inlined u64 keep_python(const struct config *c, const u8 *head, struct frame *frame)
{
	u64 code = word_in(head, c->code) & ~3ULL;

	frame->instruction = c->instruction_wide ? word_in(head, c->instruction) : half_in(head, c->instruction);
	frame->code = code;
	if (c->bytecode_copy != NONE)
		frame->code |= (u64)half_in(head, c->bytecode_copy) << 48;
	return word_at(code + c->name, &frame->name);
}

/* The frames of a Python thread. One that does not execute is being entered or left, and can only be the innermost. */
inlined void walk_python(const struct config *c, struct stack *stack, u64 state)
{
	u64 at = 0;

	if (word_at(state + c->top, &at))
		goto broken;
	if (c->top_inner != NONE && word_at(at + c->top_inner, &at))
		goto broken;
	for (stack->visits = 0; stack->visits < VISITS; stack->visits++) {
		u64 length = c->head_length;
		u32 count = stack->record.count;

		may_leave_loop(cut);
		if (!at)
			return;
		if (count >= DEEPEST)
			break;
		if (length > LARGEST_HEAD || read_user(stack->head, length, (void *)(at + c->head_start)))
			goto broken;
		if (is_script(c, stack->head)) {
			if (executes(c, stack->head)) {
				if (keep_python(c, stack->head, &stack->frames[below_deepest(count)]))
					goto broken;
				stack->record.count = count + 1;
			} else if (stack->visits) {
				goto broken;
			}
		}
		at = word_in(stack->head, c->previous);
	}
cut:
	stack->record.flags |= CUT;
	return;
broken:
	stack->record.flags |= BROKEN;
}

/* The frames of a thread of the toy VM: an array, outermost first. */
inlined void walk_toy(const struct config *c, struct stack *stack, u64 state)
{
	u64 depth = 0, at = 0;
	struct frame *frame;

	if (word_at(state + c->depth, &depth) || word_at(state + c->frames, &at))
		goto broken;
	at += depth * c->frame_size;
	for (; depth; depth--) {
		u64 length = c->head_length;
		u32 count = stack->record.count;

		may_leave_loop(cut);
		if (count >= DEEPEST)
			break;
		at -= c->frame_size;
		if (length > LARGEST_HEAD || read_user(stack->head, length, (void *)(at + c->head_start)))
			goto broken;
		frame = &stack->frames[below_deepest(count)];
		frame->code = half_in(stack->head, c->code);
		frame->instruction = half_in(stack->head, c->instruction);
		frame->name = 0;
		stack->record.count = count + 1;
	}
	if (!depth)
		return;
cut:
	stack->record.flags |= CUT;
	return;
broken:
	stack->record.flags |= BROKEN;
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

/* Ticks come twice as often as wanted and count by the toss of a coin, so that they cannot fall into step with the program. */
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
	if (stack)
		send_stack(c, map_lookup(&threads, &tid), stack, tid, TICK);
	return 0;
}

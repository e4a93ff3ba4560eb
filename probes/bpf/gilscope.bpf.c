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
#include <linux/bpf_perf_event.h>
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
/* Nanoseconds that threads have spent reading stacks. */
struct map SEC("maps") spent = { BPF_MAP_TYPE_ARRAY, sizeof(u32), sizeof(u64), 1, 0 };
/* The same at samples of an event. */
struct map SEC("maps") sampled = { BPF_MAP_TYPE_ARRAY, sizeof(u32), sizeof(u64), 1, 0 };
struct map SEC("maps") roles = { BPF_MAP_TYPE_HASH, sizeof(u64), sizeof(struct role), 4096, 0 };
struct map SEC("maps") first = { BPF_MAP_TYPE_ARRAY, sizeof(u32), sizeof(struct seat), 1, 0 };
struct map SEC("maps") foreign = { BPF_MAP_TYPE_LRU_HASH, sizeof(u64), sizeof(u64), 16384, 0 };
struct map SEC("maps") books = { BPF_MAP_TYPE_ARRAY, sizeof(u32), sizeof(struct book), 1024, 0 };
struct map SEC("maps") threads = { BPF_MAP_TYPE_HASH, sizeof(u32), sizeof(struct thread), 1 << 16, BPF_F_NO_PREALLOC };
/* Threads that sleep for something else than a lock of an interpreter. */
struct map SEC("maps") asleep = { BPF_MAP_TYPE_HASH, sizeof(u32), sizeof(u64), 1 << 16, BPF_F_NO_PREALLOC };
struct map SEC("maps") blank = { BPF_MAP_TYPE_ARRAY, sizeof(u32), sizeof(struct thread), 1, 0 };
struct map SEC("maps") ticking = { BPF_MAP_TYPE_PERCPU_ARRAY, sizeof(u32), sizeof(struct stack), 1, 0 };

char SEC("license") terms[] = "Dual MIT/GPL";

/*
 * The running process and, in the lower half, thread, as user space numbers them; 0 if it does not. Outside of containers
 * that is one comparison more than the kernel's own numbers.
 */
inlined u64 current_ids(const struct config *c)
{
	struct bpf_pidns_info ids;

	if (!c->home_inode)
		return current_id();
	if (ids_within(c->home_device, c->home_inode, &ids, sizeof(ids)))
		return 0;
	return (u64)ids.tgid << 32 | ids.pid;
}

inlined void add_to(void *map, u64 number)
{
	u32 zero = 0;
	u64 *sum = map_lookup(map, &zero);

	if (sum)
		__sync_fetch_and_add(sum, number);
}

#include "meter.h"

/*
 * The time is taken after the place in the ring: whoever finds the ring empty at some moment has seen all calls before
 * that moment.
 */
inlined void report(u32 tid, u8 kind, u64 address)
{
	struct record *record = ring_reserve(&events, sizeof(*record), 0);

	if (!record) {
		add_to(&losses, 1);
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

/* Reports a call, with the counters where they are read. */
inlined void tell(const struct config *c, u32 tid, u8 kind, u64 address, int metered)
{
	if (metered)
		report_metered(c, tid, kind, address);
	else
		report(tid, kind, address);
}

inlined void begin_stack(struct stack *stack, u32 tid, u8 kind, u64 state)
{
	stack->record.tid = tid;
	stack->record.kind = kind;
	stack->record.flags = 0;
	stack->record.count = 0;
	stack->record.address = state;
}

inlined void walk(const struct config *c, struct stack *stack, u64 state)
{
	if (c->runtime == PYTHON)
		walk_python(c, stack, state);
	else
		walk_toy(c, stack, state);
}

inlined void finish_stack(struct stack *stack)
{
	u64 size;

	stack->record.at = now();
	size = stack->record.count;
	if (size > DEEPEST)
		size = DEEPEST;
	size = sizeof(struct record) + size * sizeof(struct frame);
	/* A stack that finds no room is missed, but nothing is wrong without it. */
	ring_output(&events, stack, size, BPF_RB_NO_WAKEUP);
}

/* The state of the thread that holds the lock, or 0. */
inlined u64 holder_of(const struct config *c, u64 lock)
{
	u64 state = 0;
	u32 locked = 0;

	if (read_user(&locked, sizeof(locked), (void *)(lock + c->locked)) || locked != 1)
		return 0;
	return word_at(lock + c->last_holder, &state) ? 0 : state;
}

/* Whether garbage is collected, and by this thread: the interpreter says the one, holding its lock the other. */
inlined int collects(const struct config *c, u64 state)
{
	u64 interpreter = 0, lock = c->lock;
	u32 collecting = 0;

	if (c->collecting == NONE)
		return 0;
	if (c->interpreter != NONE && word_at(state + c->interpreter, &interpreter))
		return 0;
	if (read_user(&collecting, sizeof(collecting), (void *)(interpreter + c->collecting)) || !collecting)
		return 0;
	if (c->lock_pointer != NONE && word_at(interpreter + c->lock_pointer, &lock))
		return 0;
	return holder_of(c, lock) == state;
}

/* Reads the frames of the thread that runs now, whose state `thread` tells. */
inlined void read_own(const struct config *c, const struct thread *thread, struct stack *stack)
{
	u64 owner = 0, state = thread ? thread->state : 0;

	stack->seal = 0;
	/* A state may have been freed and given to another thread. */
	if (!state || word_at(state + c->owner_word, &owner) || owner != thread->owner)
		stack->record.flags = UNKNOWN_THREAD;
	else
		walk(c, stack, state);
}

/* The same, and sends them off. */
inlined void send_stack(const struct config *c, const struct thread *thread, struct stack *stack, u32 tid, u8 kind)
{
	u64 begun = now(), state = thread ? thread->state : 0;

	begin_stack(stack, tid, kind, state);
	read_own(c, thread, stack);
	if (kind != WAIT_BEGAN && !(stack->record.flags & UNKNOWN_THREAD) && collects(c, state))
		stack->record.flags |= COLLECTING;
	finish_stack(stack);
	add_to(&spent, now() - begun);
}

/*
 * Reads the frames of the lock's holder, which may run meanwhile, and sends them off once two readings in a row are the
 * same. Else nothing is missing: the next tick in the holder, or its release, brings its stack.
 */
inlined void read_holder(const struct config *c, struct stack *stack, u32 tid, u64 lock)
{
	u64 state = holder_of(c, lock);

	stack->last_seal = 0;
	for (stack->readings = 0; state && stack->readings < READINGS; stack->readings++) {
		may_leave_loop(changing);
		begin_stack(stack, tid, HOLDER, state);
		stack->seal = 1;
		walk(c, stack, state);
		if (holder_of(c, lock) != state)
			return;
		if (stack->record.flags & BROKEN)
			stack->seal = 0;
		else if (stack->seal == stack->last_seal) {
			if (collects(c, state))
				stack->record.flags |= COLLECTING;
			return finish_stack(stack);
		}
		stack->last_seal = stack->seal;
	}
changing:
	return;
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

/*
 * The lock's last holder is the thread that has just taken it, which is the one that runs now. It is looked up only if that
 * is not what the book says already.
 */
inlined void learn_state(const struct config *c, struct book *book, u32 tid, u64 lock)
{
	struct thread *thread;
	u64 state = 0;

	if (word_at(lock + c->last_holder, &state) || state == book->state)
		return;
	thread = thread_of(tid);
	if (!thread)
		return;
	if (state != thread->state) {
		if (word_at(state + c->owner_word, &thread->owner))
			return;
		thread->state = state;
	}
	book->state = state;
}

inlined void send_holder(const struct config *c, struct book *book, struct stack *stack, u32 tid, u64 lock)
{
	u64 begun = now();

	read_holder(c, stack, tid, lock);
	/* The space to the next reading begins here: a long one must not be followed by another at once. */
	book->read_at = now();
	add_to(&spent, book->read_at - begun);
}

/*
 * Whether the last stack of a kind is long enough ago for another. Whoever waits has time, but has the mutex in hand that the
 * holder needs for its release.
 */
inlined int is_due(u64 *last)
{
	u64 time = now();

	if (time - *last < SPACING)
		return 0;
	*last = time;
	return 1;
}

/*
 * Whether this changes nothing that is kept of the thread, which then need not be looked up: nobody waits, so neither does
 * this thread; it lets go after a short while, or takes again what it took last.
 */
inlined int is_plain(const struct book *book, u32 tid, int step)
{
	if (book->waiters)
		return 0;
	if (step == RELEASED)
		return !book->since || book->since == kernel_ticks();
	return step == ACQUIRED && book->holder == tid;
}

/* Another thread has taken the lock. What the book of the lock that this one took before says of it is over. */
inlined void change_holder(struct book *book, struct thread *thread, u32 tid, u32 number)
{
	u32 last = thread->lock - 1;
	struct book *before = thread->lock && last != number ? map_lookup(&books, &last) : 0;

	if (before)
		__sync_val_compare_and_swap(&before->holder, tid, 0);
	thread->lock = number + 1;
	book->holder = tid;
	book->state = 0;
}

inlined void end_want(struct book *book, struct thread *thread)
{
	thread->wants = 0;
	if (book->waiters)
		book->waiters--;
}

/* A call on a known lock. Where counters are read, before all else: what is done here belongs to what comes. */
inlined void on_step(const struct config *c, const struct role *role, u64 cookie, u64 address, int metered)
{
	u32 tid = current_ids(c), number = role->number;
	u64 lock = role->lock;
	int step = step_of(cookie, role->part);
	u8 stack = 0;
	struct book *book = map_lookup(&books, &number);
	struct thread *thread = 0;
	int plain = !book || is_plain(book, tid, step);

	if (!plain)
		thread = thread_of(tid);
	if (!thread) {
		tell(c, tid, cookie, address, metered);
		if (!book || !plain)
			return;
		book->since = step == ACQUIRED ? kernel_ticks() : 0;
		if (step == ACQUIRED && c->runtime)
			learn_state(c, book, tid, lock);
		return;
	}
	if (step == RELEASED) {
		/* From inside a timed wait: libc passes on a signal that it has not used. Nobody releases. */
		if (thread->wants == lock && !c->switchable)
			return;
		/* Or the lock has been turned off meanwhile. */
		if (thread->wants == lock)
			end_want(book, thread);
		if ((book->waiters || (book->since && book->since != kernel_ticks())) && is_due(&book->noted_at))
			stack = AT_RELEASE;
	} else if (step == WANT) {
		if (thread->wants != lock) {
			thread->wants = lock;
			thread->told = 0;
			book->waiters++;
		}
		/* A wait that lasts for a switch interval comes by again, and gets its stack then at the latest. */
		if (!thread->told && is_due(&thread->told_at)) {
			thread->told = 1;
			stack = WAIT_BEGAN;
		}
	}
	if (stack && c->runtime) {
		if (metered)
			report_metered(c, tid, METERED, 0);
		send_stack(c, thread, &thread->stack, tid, stack);
		report(tid, cookie, address);
	} else {
		tell(c, tid, cookie, address, metered);
	}
	if (step == WANT) {
		if (c->runtime && is_due(&book->read_at))
			send_holder(c, book, &thread->stack, tid, lock);
	} else if (step == RELEASED) {
		book->since = 0;
	} else if (step == ACQUIRED) {
		if (book->holder != tid)
			change_holder(book, thread, tid, number);
		book->since = kernel_ticks();
		if (thread->wants == lock)
			end_want(book, thread);
		if (c->runtime)
			learn_state(c, book, tid, lock);
	}
}

/* Whether the address belongs to the lock that was found first, which is nearly always the only one. */
inlined int is_first(const struct seat *seat, u64 address, struct role *role)
{
	role->lock = seat->lock;
	role->number = 0;
	role->part = address == seat->cond ? COND : SWITCH_COND;
	return seat->lock && (address == seat->cond || address == seat->switch_cond);
}

inlined int on_any_call(struct pt_regs *registers, int metered)
{
	u32 zero = 0;
	u64 address = registers->rdi;
	u64 cookie = cookie_of(registers);
	struct config *c = map_lookup(&config, &zero);
	struct seat *seat = map_lookup(&first, &zero);
	struct role *role, of_first;

	if (!c || !seat)
		return 0;
	role = is_first(seat, address, &of_first) ? &of_first : map_lookup(&roles, &address);
	if (role)
		on_step(c, role, cookie, address, metered);
	/* A foreign one that is made anew may be a lock's. */
	else if (cookie == INIT || !map_lookup(&foreign, &address))
		tell(c, current_ids(c), cookie, address, metered);
	return 0;
}

SEC("uprobe.multi")
int on_call(struct pt_regs *registers)
{
	return on_any_call(registers, 0);
}

/* The same where counters are read. */
SEC("uprobe.metered")
int on_metered_call(struct pt_regs *registers)
{
	return on_any_call(registers, 1);
}

/* A thread leaves its CPU. */
SEC("raw_tp.switch")
int on_switch(struct switched *switched)
{
	u32 zero = 0;
	struct config *c = map_lookup(&config, &zero);

	if (c)
		on_any_switch(c, switched->to);
	return 0;
}

/* A thread ends. What it does afterwards belongs to nobody. */
SEC("raw_tp.exit")
int on_exit(void *context)
{
	u32 zero = 0;
	struct config *c = map_lookup(&config, &zero);
	u64 id;

	if (!c)
		return 0;
	id = current_ids(c);
	if (id >> 32 == c->process)
		report_metered(c, id, METERED, 0);
	return 0;
}

inlined int is_near(const struct pt_regs *registers, u64 address)
{
	return address - registers->rsp < NEAR;
}

/* Whether the address is the word in the thread's own state that tells whether it is suspended. */
inlined int is_own_state(const struct config *c, const struct thread *thread, u32 tid, u64 address)
{
	u64 state = address - c->suspended, owner = 0;

	if (c->suspended == NONE)
		return 0;
	if (thread->state)
		return state == thread->state;
	return !word_at(state + c->owner_word, &owner) && owner == tid;
}

/*
 * A thread of a free-threaded interpreter asks for a semaphore. If it is one of its own stack, it is the interpreter's, and
 * before it lie a pointer, which for a mutex is one into the stack, and the address that the thread is to sleep at. If its
 * count is not 0, the thread does not sleep.
 */
SEC("uprobe.park")
int on_park(struct pt_regs *registers)
{
	u32 zero = 0, tid, count = 0;
	u64 semaphore = registers->rdi, entry[2], yes = 1;
	u8 kind = cookie_of(registers);
	struct config *c = map_lookup(&config, &zero);
	struct thread *thread;

	if (!c || !is_near(registers, semaphore))
		return 0;
	if (read_user(&count, sizeof(count), (void *)semaphore) || count << 1)
		return 0;
	if (read_user(entry, sizeof(entry), (void *)(semaphore - sizeof(entry))))
		return 0;
	tid = current_ids(c);
	thread = thread_of(tid);
	if (!thread || map_update(&asleep, &tid, &yes, BPF_ANY)) {
		add_to(&losses, 1);
		return 0;
	}
	if (is_near(registers, entry[0]))
		kind = PARK_MUTEX;
	else if (is_own_state(c, thread, tid, entry[1]))
		kind = PARK_SUSPENDED;
	if (c->runtime && is_due(&thread->told_at))
		send_stack(c, thread, &thread->stack, tid, PARKED);
	report(tid, kind, entry[1]);
	return 0;
}

/* It goes on. */
SEC("uprobe.unpark")
int on_unpark(struct pt_regs *registers)
{
	u32 zero = 0, tid;
	struct config *c = map_lookup(&config, &zero);

	if (!c)
		return 0;
	tid = current_ids(c);
	if (map_delete(&asleep, &tid))
		return 0;
	report(tid, (int)registers->rax ? PARK_GAVE_UP : PARK_WOKEN, 0);
	return 0;
}

/* Whether somebody waits for the lock that the thread holds. */
inlined int is_waited_for(const struct thread *thread, u32 tid)
{
	u32 number = thread->lock - 1;
	struct book *book = thread->lock ? map_lookup(&books, &number) : 0;

	return book && book->waiters && book->since && book->holder == tid;
}

/*
 * Ticks come twice as often as wanted and count by the toss of a coin, so that they cannot fall into step with the program.
 * One that does not count still tells what a holder does while others wait. For one that counts, the kernel then takes along
 * what the clock was opened for, such as the native stack.
 */
SEC("perf_event")
int on_tick(void *context)
{
	u32 zero = 0;
	struct config *c = map_lookup(&config, &zero);
	struct thread *thread;
	struct stack *stack;
	u8 kind = TICK;
	u64 id;
	u32 tid;

	if (!c || !c->runtime)
		return 0;
	id = current_ids(c);
	tid = id;
	if (id >> 32 != c->process)
		return 0;
	thread = map_lookup(&threads, &tid);
	if (random_number() & 1) {
		if (!thread || !is_waited_for(thread, tid))
			return 0;
		kind = OWNER;
	}
	stack = map_lookup(&ticking, &zero);
	if (!stack)
		return 0;
	send_stack(c, thread, stack, tid, kind);
	return kind == TICK;
}

/*
 * The event that is sampled has happened to the thread as often as it was to be told of. It stands where it is meanwhile, so
 * its stack is exact. The place of a state in the record tells how many events the sample stands for.
 */
SEC("perf_event.event")
int on_event(struct bpf_perf_event_data *context)
{
	u32 zero = 0, tid;
	u64 begun = now(), id;
	struct config *c = map_lookup(&config, &zero);
	struct stack *stack = map_lookup(&ticking, &zero);

	if (!c || !c->runtime || !stack)
		return 0;
	id = current_ids(c);
	tid = id;
	if (id >> 32 != c->process)
		return 0;
	begin_stack(stack, tid, EVENT, context->sample_period);
	read_own(c, map_lookup(&threads, &tid), stack);
	finish_stack(stack);
	add_to(&sampled, now() - begun);
	return 0;
}

/*
 * The in-kernel half of the uprobe source: the programs themselves, which run at a hit of a probe, at a tick of the sampling clock,
 * at a sample of an event, and, where counters are read, at switches and at the ends of threads.
 *
 * Nothing here or in the headers knows a version of a runtime: all offsets come from `config`.
 *
 * Invariant: the target is never changed and never waits; what does not fit into the ring is counted in `losses`.
 *
 * Rebuild gilscope.bpf.o with probes/bpf/build after every change.
 */
#include <linux/bpf_perf_event.h>
#include <linux/ptrace.h>

#include "books.h"
#include "meter.h"
#include "records.h"
#include "stacks.h"

char SEC("license") terms[] = "Dual MIT/GPL";

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
inlined int is_own_state(const struct config *c, const struct thread *thread, u64 address)
{
	u64 state = address - c->suspended, owner = 0;

	if (c->suspended == NONE)
		return 0;
	if (thread->state)
		return state == thread->state;
	return !word_at(state + c->owner_word, &owner) && owner && owner == inner_tid(c);
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
	else if (is_own_state(c, thread, entry[1]))
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

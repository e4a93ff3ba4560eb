/*
 * What the kernel's and the processor's counters have counted of each thread of the target, as of the moment of a lock event.
 *
 * Counters count whatever runs on their CPU. When a thread of the target gets a CPU, what they say is noted, with what the thread
 * has had before; when it leaves, what they have counted meanwhile is added to that. At a lock event its own thread adds up the
 * same and changes nothing: a switch in between is noticed, and the reading is made once more.
 *
 * Some kernels do not tell when certain processes leave a CPU. Whatever they did there then counts for the thread that came next;
 * how often that was is counted in `unseen`. The processor's counters are a group: they count together or not at all, so that one of them, the
 * leader, says for all how long they did.
 *
 * Invariant: `bases` and `meters` are changed at switches alone, where nothing else runs on the CPU.
 */
#ifndef GILSCOPE_METER_H
#define GILSCOPE_METER_H

#include "maps.h"

/* What a counter says, and for how long it was to count and did; twice as dear as the number alone. */
static long (*read_leader)(void *map, u64 index, struct bpf_perf_event_value *into, u32 size) =
	(void *)BPF_FUNC_perf_event_read_value;
static u64 (*read_counter)(void *map, u64 index) = (void *)BPF_FUNC_perf_event_read;
static u32 (*current_cpu)(void) = (void *)BPF_FUNC_get_smp_processor_id;

/* Counters that can be read. */
#define METERS 8
/* The counters of a CPU lie that far apart, those of one counter side by side. */
#define MOST_CPUS 512
/* How often a reading is made until no switch comes between. */
#define ATTEMPTS 2
/* One switch in so many is timed; a prime, since switches come in turns. */
#define TIMED 61
/* What takes longer was interrupted, in nanoseconds. */
#define LONGEST_SWITCH 20000
/* The value of a counter that could not be read, once. */
#define UNREADABLE (~0ULL)
/* An error is a number so far below zero at most. */
#define LARGEST_ERROR 4095ULL

/* A record with nothing but what the counters of its thread say. `count` of any record that has such says of how many. */
enum { METERED = 40 };

struct meter {
	/* For how long the processor's counters were to count, and did. */
	u64 enabled;
	u64 running;
	u64 values[METERS];
};

/* What is known of a CPU and of the thread of the target on it. */
struct base {
	/* Switches on this CPU so far. */
	u64 switches;
	/* The thread, or 0 while none is there. */
	u64 tid;
	/* What the counters of the CPU said at the last switch, and what had been counted of the thread by then. */
	struct meter then;
	struct meter before;
};

/* What is told at a switch. */
struct switched {
	u64 preempted;
	u64 from;
	u64 to;
};

struct few_metered {
	struct record record;
	u64 enabled;
	u64 running;
	u64 values[METERS / 2];
};

struct metered {
	struct record record;
	u64 enabled;
	u64 running;
	u64 values[METERS];
};

struct map SEC("maps") counters = { BPF_MAP_TYPE_PERF_EVENT_ARRAY, sizeof(u32), sizeof(u32), METERS * MOST_CPUS, 0 };
struct map SEC("maps") bases = { BPF_MAP_TYPE_PERCPU_ARRAY, sizeof(u32), sizeof(struct base), 1, 0 };
struct map SEC("maps") meters = { BPF_MAP_TYPE_LRU_HASH, sizeof(u32), sizeof(struct meter), 1 << 16, 0 };
/* Nanoseconds that switches to and from threads of the target have taken for it. */
struct map SEC("maps") switching = { BPF_MAP_TYPE_ARRAY, sizeof(u32), sizeof(u64), 1, 0 };
struct map SEC("maps") unseen = { BPF_MAP_TYPE_ARRAY, sizeof(u32), sizeof(u64), 1, 0 };
struct map SEC("maps") no_meter = { BPF_MAP_TYPE_ARRAY, sizeof(u32), sizeof(struct meter), 1, 0 };

/* What a counter of this CPU says; if it is the leader, into `times` as well. */
inlined u64 read_one(u32 number, u32 leader, struct bpf_perf_event_value *times)
{
	u32 cpu = current_cpu();
	u64 index = number * MOST_CPUS + cpu, value;

	if (cpu >= MOST_CPUS)
		return UNREADABLE;
	if (number == leader)
		return read_leader(&counters, index, times, sizeof(*times)) ? UNREADABLE : times->counter;
	value = read_counter(&counters, index);
	return value >= -LARGEST_ERROR ? UNREADABLE : value;
}

/* `before`, and what has been counted between `from` and `to`. */
inlined u64 counted(u64 before, u64 from, u64 to)
{
	if (before == UNREADABLE || from == UNREADABLE || to == UNREADABLE)
		return UNREADABLE;
	return before + to - from;
}

inlined void fill_head(struct record *record, u32 tid, u8 kind, u64 address, u32 count)
{
	record->at = now();
	record->tid = tid;
	record->kind = kind;
	record->flags = 0;
	record->count = count;
	record->address = address;
}

/* What had been counted of the thread that runs now when it came; 0 if that is not known. */
inlined const struct meter *known_before(const struct base *base, u32 tid)
{
	u32 zero = 0;
	const struct meter *meter;

	if (base->tid == tid)
		return &base->before;
	if (!base->switches || base->tid)
		return 0;
	/* That it came was not told. */
	meter = map_lookup(&meters, &tid);
	return meter ? meter : map_lookup(&no_meter, &zero);
}

/* What the counters say of the thread that runs now; 0 if a switch came between. */
inlined int read_meter(const struct config *c, const struct base *base, u32 tid, u32 room, u64 *times, u64 *values)
{
	volatile const u64 *switches = &base->switches;
	u64 since = *switches;
	struct bpf_perf_event_value here = {};
	const struct meter *before = known_before(base, tid);

	if (!before)
		return 0;
	for (u32 i = 0; i < room && i < c->metered; i++)
		values[i] = counted(before->values[i], base->then.values[i], read_one(i, c->leader, &here));
	times[0] = before->enabled + here.enabled - base->then.enabled;
	times[1] = before->running + here.running - base->then.running;
	return *switches == since;
}

inlined int read_patiently(const struct config *c, const struct base *base, u32 tid, u32 room, u64 *times, u64 *values)
{
#pragma clang loop unroll(disable)
	for (u32 attempt = 0; attempt < ATTEMPTS; attempt++)
		if (read_meter(c, base, tid, room, times, values))
			return 1;
	return 0;
}

/*
 * Reports a call together with what the counters say of the thread that makes it; or those alone, which are missed where there is no
 * room, but nothing is wrong without them: the next ones have all that they had.
 */
inlined void report_metered(const struct config *c, u32 tid, u8 kind, u64 address)
{
	u32 zero = 0, count = c->metered;
	struct base *base = map_lookup(&bases, &zero);
	struct few_metered *few;
	struct metered *all;

	if (!base)
		return;
	if (count <= METERS / 2) {
		few = ring_reserve(&events, sizeof(*few), 0);
		if (few) {
			if (!read_patiently(c, base, tid, METERS / 2, &few->enabled, few->values))
				count = 0;
			fill_head(&few->record, tid, kind, address, count);
			return ring_submit(few, BPF_RB_NO_WAKEUP);
		}
	} else {
		all = ring_reserve(&events, sizeof(*all), 0);
		if (all) {
			if (!read_patiently(c, base, tid, METERS, &all->enabled, all->values))
				count = 0;
			fill_head(&all->record, tid, kind, address, count);
			return ring_submit(all, BPF_RB_NO_WAKEUP);
		}
	}
	if (kind != METERED)
		add_to(&losses, 1);
}

inlined struct meter *meter_of(u32 tid)
{
	return found_or_made(&meters, &no_meter, tid);
}

/* Reports at a switch what has just been added up of a thread. */
inlined void send_settled(u32 tid, u32 count, const struct meter *meter)
{
	struct metered *all = ring_reserve(&events, sizeof(*all), 0);

	if (!all)
		return;
	all->enabled = meter->enabled;
	all->running = meter->running;
	__builtin_memcpy(all->values, meter->values, sizeof(all->values));
	fill_head(&all->record, tid, METERED, 0, count);
	ring_submit(all, BPF_RB_NO_WAKEUP);
}

inlined void read_all(const struct config *c, struct meter *into)
{
	struct bpf_perf_event_value here = {};

	for (u32 i = 0; i < METERS && i < c->metered; i++)
		into->values[i] = read_one(i, c->leader, &here);
	into->enabled = here.enabled;
	into->running = here.running;
}

/* A thread of the target leaves the CPU: what was counted there since it came is its. */
inlined void leave(const struct config *c, const struct base *base, u32 tid, const struct meter *here)
{
	struct meter *meter = meter_of(tid);
	const struct meter *before = known_before(base, tid);

	if (!meter || !base->switches)
		return;
	if (base->tid != tid)
		add_to(&unseen, 1);
	for (u32 i = 0; i < METERS && i < c->metered; i++)
		meter->values[i] = before ? counted(before->values[i], base->then.values[i], here->values[i]) : UNREADABLE;
	if (before) {
		meter->enabled = before->enabled + here->enabled - base->then.enabled;
		meter->running = before->running + here->running - base->then.running;
	}
	send_settled(tid, c->metered, meter);
}

/* A thread gets the CPU; 0 for one that is not of the target. */
inlined void come(struct base *base, u32 tid, const struct meter *here)
{
	u32 zero = 0;
	const struct meter *meter;

	base->tid = 0;
	base->then = *here;
	if (!tid)
		return;
	meter = map_lookup(&meters, &tid);
	if (!meter)
		meter = map_lookup(&no_meter, &zero);
	if (!meter)
		return;
	base->before = *meter;
	base->tid = tid;
}

/* The thread that gets the CPU if it is one of the target, or 0. */
inlined u32 of_target(const struct config *c, u64 task)
{
	u32 tgid = 0, tid = 0;

	if (read_kernel(&tgid, sizeof(tgid), (void *)(task + c->task_tgid)) || tgid != c->process)
		return 0;
	return read_kernel(&tid, sizeof(tid), (void *)(task + c->task_pid)) ? 0 : tid;
}

/*
 * The CPU goes from one thread to another; or, where no other is named, the one that has it is looked at as if it left and came back.
 */
inlined void on_any_switch(const struct config *c, u64 to)
{
	u32 zero = 0;
	u64 id = current_id();
	u32 last = id >> 32 == c->process ? (u32)id : 0, next = to ? of_target(c, to) : last;
	struct base *base = map_lookup(&bases, &zero);
	struct meter here = {};
	u64 begun, spent;

	if (!base)
		return;
	begun = base->switches % TIMED ? 0 : now();
	read_all(c, &here);
	if (last)
		leave(c, base, last, &here);
	come(base, next, &here);
	base->switches++;
	if (!begun || !(last || next))
		return;
	spent = now() - begun;
	add_to(&switching, (spent < LONGEST_SWITCH ? spent : LONGEST_SWITCH) * TIMED);
}

#endif

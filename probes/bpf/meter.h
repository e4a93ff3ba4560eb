/*
 * What the kernel's and the processor's counters have counted of each thread of the target, as of the moment of a lock event.
 *
 * Counters count whatever runs on their CPU. At each switch what they have counted since the switch before belongs to the thread
 * that ran; at a lock event its own thread adds what has come since, and changes nothing: a switch in between is noticed, and
 * the reading is made once more. The processor's counters are a group: they count together or not at all, so that one of them, the
 * leader, says for all how long they did.
 *
 * Invariant: `bases` and `meters` are changed at switches alone, where nothing else runs on the CPU.
 */
#ifndef GILSCOPE_METER_H
#define GILSCOPE_METER_H

#include "model.h"

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
/* The value of a counter that could not be read, once. */
#define UNREADABLE (~0ULL)
/* The largest number that is an error. */
#define LARGEST_ERROR 4095

/* A record with nothing but what the counters of its thread say. `count` of any record that has such says of how many. */
enum { METERED = 40 };

struct meter {
	/* For how long the processor's counters were to count, and did. */
	u64 enabled;
	u64 running;
	u64 values[METERS];
};

struct base {
	/* Switches on this CPU so far. 0: what the counters said at the last one is not known. */
	u64 switches;
	struct meter meter;
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
	return -value <= LARGEST_ERROR ? UNREADABLE : value;
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

/* What the counters say of the thread that runs now; 0 if a switch came between. */
inlined int read_meter(const struct config *c, const struct base *base, const struct meter *meter, u32 room, u64 *times,
		       u64 *values)
{
	volatile const u64 *switches = &base->switches;
	u64 before = *switches;
	struct bpf_perf_event_value here = {};

	for (u32 i = 0; i < room && i < c->metered; i++)
		values[i] = counted(meter->values[i], base->meter.values[i], read_one(i, c->leader, &here));
	times[0] = meter->enabled + here.enabled - base->meter.enabled;
	times[1] = meter->running + here.running - base->meter.running;
	return *switches == before;
}

inlined int read_patiently(const struct config *c, const struct base *base, u32 tid, u32 room, u64 *times, u64 *values)
{
	u32 zero = 0;
	const struct meter *meter;

	if (!base->switches)
		return 0;
#pragma clang loop unroll(disable)
	for (u32 attempt = 0; attempt < ATTEMPTS; attempt++) {
		meter = map_lookup(&meters, &tid);
		if (!meter)
			meter = map_lookup(&no_meter, &zero);
		if (meter && read_meter(c, base, meter, room, times, values))
			return 1;
	}
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
	u32 zero = 0;
	struct meter *meter = map_lookup(&meters, &tid);
	void *none;

	if (meter)
		return meter;
	none = map_lookup(&no_meter, &zero);
	if (!none)
		return 0;
	map_update(&meters, &tid, none, BPF_NOEXIST);
	return map_lookup(&meters, &tid);
}

/* The same at a switch, of what has just been added up. */
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

/* Adds up what was counted on this CPU since the last switch, all of it the thread's. */
inlined void add_up(const struct config *c, struct meter *base, struct meter *meter)
{
	struct bpf_perf_event_value here = {};
	u64 value;

	for (u32 i = 0; i < METERS && i < c->metered; i++) {
		value = read_one(i, c->leader, &here);
		meter->values[i] = counted(meter->values[i], base->values[i], value);
		base->values[i] = value;
	}
	meter->enabled += here.enabled - base->enabled;
	meter->running += here.running - base->running;
	base->enabled = here.enabled;
	base->running = here.running;
}

inlined void begin_anew(const struct config *c, struct meter *base)
{
	struct bpf_perf_event_value here = {};

	for (u32 i = 0; i < METERS && i < c->metered; i++)
		base->values[i] = read_one(i, c->leader, &here);
	base->enabled = here.enabled;
	base->running = here.running;
}

/* The thread that runs leaves its CPU, or is looked at as if it did. */
inlined void settle(const struct config *c)
{
	u32 zero = 0, tid;
	u64 id = current_ids(c);
	struct base *base = map_lookup(&bases, &zero);
	struct meter *meter = 0;

	if (!base)
		return;
	tid = id;
	if (id >> 32 == c->process && base->switches)
		meter = meter_of(tid);
	if (meter)
		add_up(c, &base->meter, meter);
	else
		begin_anew(c, &base->meter);
	base->switches++;
	if (meter)
		send_settled(tid, c->metered, meter);
}

#endif

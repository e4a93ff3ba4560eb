/*
 * What the kernel's and the processor's counters have counted of each thread of the target, as of the moment of a lock event.
 *
 * Counters count whatever runs on their CPU. At each switch what they have counted since the switch before belongs to the thread
 * that ran; at a lock event its own thread adds what has come since, and changes nothing: a switch in between is noticed, and
 * the reading is made once more.
 *
 * Invariant: `bases` and `meters` are changed at switches alone, where nothing else runs on the CPU.
 */
#ifndef GILSCOPE_METER_H
#define GILSCOPE_METER_H

#include "model.h"

static long (*read_counter)(void *map, u64 index, struct bpf_perf_event_value *into, u32 size) =
	(void *)BPF_FUNC_perf_event_read_value;
static u32 (*current_cpu)(void) = (void *)BPF_FUNC_get_smp_processor_id;

/* Counters that can be read. */
#define METERS 8
/* The counters of a CPU lie that far apart, those of one counter side by side. */
#define MOST_CPUS 512
/* How often a reading is made until no switch comes between. */
#define ATTEMPTS 2
/* In `enabled`: the counter could not be read. */
#define UNREADABLE (~0ULL)

/* A record with what the counters of its thread say. `count` of the record says how many there are. */
enum { METERED = 40 };

struct base {
	/* Switches on this CPU so far. 0: what the counters said at the last one is not known. */
	u64 switches;
	struct bpf_perf_event_value of[METERS];
};

struct meter {
	struct bpf_perf_event_value of[METERS];
};

struct few_metered {
	struct record record;
	struct bpf_perf_event_value of[METERS / 2];
};

struct metered {
	struct record record;
	struct bpf_perf_event_value of[METERS];
};

struct map SEC("maps") counters = { BPF_MAP_TYPE_PERF_EVENT_ARRAY, sizeof(u32), sizeof(u32), METERS * MOST_CPUS, 0 };
struct map SEC("maps") bases = { BPF_MAP_TYPE_PERCPU_ARRAY, sizeof(u32), sizeof(struct base), 1, 0 };
struct map SEC("maps") meters = { BPF_MAP_TYPE_LRU_HASH, sizeof(u32), sizeof(struct meter), 1 << 16, 0 };
struct map SEC("maps") no_meter = { BPF_MAP_TYPE_ARRAY, sizeof(u32), sizeof(struct meter), 1, 0 };

/* What a counter of this CPU says. */
inlined void read_one(u32 number, struct bpf_perf_event_value *into)
{
	u32 cpu = current_cpu();

	if (cpu >= MOST_CPUS || read_counter(&counters, number * MOST_CPUS + cpu, into, sizeof(*into)))
		into->enabled = UNREADABLE;
}

/* Into `sum`: `before`, and what has been counted between `from` and `to`. */
inlined void add_counted(struct bpf_perf_event_value *sum, const struct bpf_perf_event_value *before,
			 const struct bpf_perf_event_value *from, const struct bpf_perf_event_value *to)
{
	if (before->enabled == UNREADABLE || from->enabled == UNREADABLE || to->enabled == UNREADABLE) {
		sum->enabled = UNREADABLE;
		return;
	}
	sum->counter = before->counter + to->counter - from->counter;
	sum->enabled = before->enabled + to->enabled - from->enabled;
	sum->running = before->running + to->running - from->running;
}

inlined void fill_head(struct record *record, u32 tid, u32 count)
{
	record->at = now();
	record->tid = tid;
	record->kind = METERED;
	record->flags = 0;
	record->count = count;
	record->address = 0;
}

/* What the counters say of the thread that runs now; 0 if a switch came between. */
inlined int read_meter(const struct base *base, const struct meter *meter, u32 count, u32 room,
		       struct bpf_perf_event_value *into)
{
	volatile const u64 *switches = &base->switches;
	u64 before = *switches;
	struct bpf_perf_event_value here;

	for (u32 i = 0; i < room && i < count; i++) {
		read_one(i, &here);
		add_counted(&into[i], &meter->of[i], &base->of[i], &here);
	}
	return *switches == before;
}

inlined int read_patiently(const struct base *base, u32 tid, u32 count, u32 room, struct bpf_perf_event_value *into)
{
	u32 zero = 0;
	const struct meter *meter;

	for (u32 attempt = 0; attempt < ATTEMPTS; attempt++) {
		meter = map_lookup(&meters, &tid);
		if (!meter)
			meter = map_lookup(&no_meter, &zero);
		if (meter && read_meter(base, meter, count, room, into))
			return 1;
	}
	return 0;
}

/*
 * Tells what the counters say of the thread that runs now, before it does whatever it is about to do. A record that finds no room
 * is missed, but nothing is wrong without it: the next one has all that it had.
 */
inlined void send_meter(u32 tid, u32 count)
{
	u32 zero = 0;
	struct base *base = map_lookup(&bases, &zero);
	struct few_metered *few;
	struct metered *all;

	if (!base || !base->switches)
		return;
	if (count <= METERS / 2) {
		few = ring_reserve(&events, sizeof(*few), 0);
		if (!few)
			return;
		if (!read_patiently(base, tid, count, METERS / 2, few->of))
			return ring_discard(few, BPF_RB_NO_WAKEUP);
		fill_head(&few->record, tid, count);
		ring_submit(few, BPF_RB_NO_WAKEUP);
	} else {
		all = ring_reserve(&events, sizeof(*all), 0);
		if (!all)
			return;
		if (!read_patiently(base, tid, count, METERS, all->of))
			return ring_discard(all, BPF_RB_NO_WAKEUP);
		fill_head(&all->record, tid, count);
		ring_submit(all, BPF_RB_NO_WAKEUP);
	}
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
	__builtin_memcpy(all->of, meter->of, sizeof(all->of));
	fill_head(&all->record, tid, count);
	ring_submit(all, BPF_RB_NO_WAKEUP);
}

/* Adds up what was counted on this CPU since the last switch, all of it the thread's. */
inlined void add_up(struct base *base, struct meter *meter, u32 count)
{
	struct bpf_perf_event_value here;

	for (u32 i = 0; i < METERS && i < count; i++) {
		read_one(i, &here);
		add_counted(&meter->of[i], &meter->of[i], &base->of[i], &here);
		base->of[i] = here;
	}
}

inlined void begin_anew(struct base *base, u32 count)
{
	for (u32 i = 0; i < METERS && i < count; i++)
		read_one(i, &base->of[i]);
}

/* The thread that runs leaves its CPU, or is looked at as if it did. */
inlined void settle(const struct config *c, u32 count)
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
		add_up(base, meter, count);
	else
		begin_anew(base, count);
	base->switches++;
	if (meter)
		send_settled(tid, count, meter);
}

#endif

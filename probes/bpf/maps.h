/*
 * What the programs keep from one hit to the next, and share with user space. What counters need alone stands in meter.h.
 *
 * Invariant: user space makes each map just as it stands here, and finds it by its name.
 */
#ifndef GILSCOPE_MAPS_H
#define GILSCOPE_MAPS_H

#include "model.h"

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

/* What `map` has under `key`: a copy of what `blanks` has, if it had nothing. 0 where there is no room. */
inlined void *found_or_made(void *map, void *blanks, u32 key)
{
	u32 zero = 0;
	void *found = map_lookup(map, &key), *blank;

	if (found)
		return found;
	blank = map_lookup(blanks, &zero);
	if (!blank)
		return 0;
	map_update(map, &key, blank, BPF_NOEXIST);
	return map_lookup(map, &key);
}

inlined void add_to(void *map, u64 number)
{
	u32 zero = 0;
	u64 *sum = map_lookup(map, &zero);

	if (sum)
		__sync_fetch_and_add(sum, number);
}

#endif

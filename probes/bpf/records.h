/*
 * Calls on their way to user space, and the thread that each is of, as user space numbers it.
 *
 * Invariant: a call whose record finds no room in the ring is counted in `losses`.
 */
#ifndef GILSCOPE_RECORDS_H
#define GILSCOPE_RECORDS_H

#include "maps.h"
#include "meter.h"

/* The running process and, in the lower half, thread, as a pid namespace numbers them; 0 if it does not. */
inlined u64 ids_in(u64 device, u64 inode)
{
	struct bpf_pidns_info ids;

	if (!inode)
		return current_id();
	if (ids_within(device, inode, &ids, sizeof(ids)))
		return 0;
	return (u64)ids.tgid << 32 | ids.pid;
}

/* As user space numbers them. Outside of containers that is one comparison more than the kernel's own numbers. */
inlined u64 current_ids(const struct config *c)
{
	return ids_in(c->home_device, c->home_inode);
}

/* The running thread, as the target numbers it. */
inlined u32 inner_tid(const struct config *c)
{
	return ids_in(c->inner_device, c->inner_inode);
}

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

#endif

/*
 * The books of the locks: who waits, who took the lock last, and since when it is held; and what a call on a lock changes there.
 *
 * What a call means is decided in user space; here only what decides whether a stack is worth its price is kept.
 *
 * Invariant: a book is changed with its lock's mutex in hand, but for the mark of a holder that takes another lock.
 */
#ifndef GILSCOPE_BOOKS_H
#define GILSCOPE_BOOKS_H

#include "maps.h"
#include "records.h"
#include "stacks.h"

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
	return found_or_made(&threads, &blank, tid);
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

/* Whether somebody waits for the lock that the thread holds. */
inlined int is_waited_for(const struct thread *thread, u32 tid)
{
	u32 number = thread->lock - 1;
	struct book *book = thread->lock ? map_lookup(&books, &number) : 0;

	return book && book->waiters && book->since && book->holder == tid;
}

/*
 * A step of a thread of which there is no room to keep anything. When it takes another lock later, nobody takes back that it
 * holds this one: so the holder is not known. A release, if another holds the lock, is libc that passes on a signal.
 */
inlined void change_without_thread(struct book *book, u32 tid, int step)
{
	if (step == ACQUIRED) {
		book->holder = 0;
		book->state = 0;
		book->since = kernel_ticks();
	} else if (step == RELEASED && (!book->holder || book->holder == tid)) {
		book->since = 0;
	}
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
		if (!book)
			return;
		if (!plain)
			return change_without_thread(book, tid, step);
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

#endif

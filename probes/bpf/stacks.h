/*
 * Reads the stack of the thread that runs now, or of a lock's holder, and sends it to user space.
 *
 * A thread that is stopped by a probe or a tick does not change its frames, so its stack is read here, by itself, and is
 * exact.
 *
 * Invariant: no stack is sent that was seen to change while it was read; what else is the matter with it, its flags say.
 */
#ifndef GILSCOPE_STACKS_H
#define GILSCOPE_STACKS_H

#include "maps.h"
#include "walk.h"

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

#endif

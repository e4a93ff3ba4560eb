/*
 * Along the frames of a thread, from the innermost outwards. Those of the thread that runs now stand still. Those of another
 * one may change meanwhile: with a seal that is not 0 it is computed on, and only what two walks agree on is believed.
 */
#ifndef GILSCOPE_WALK_H
#define GILSCOPE_WALK_H

#include "model.h"

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

/* Whether the frame itself tells that it is the outermost of its call of the evaluation loop. */
inlined int is_outermost(const struct config *c, const u8 *head)
{
	return c->entry == NONE ? !c->shim_owners : byte_in(head, c->entry) == (u8)c->entry_value;
}

/* Copies what matters of one frame; the code object's name pointer tells later whether it is still the same object. */
inlined u64 keep_python(const struct config *c, const u8 *head, struct frame *frame)
{
	u64 code = word_in(head, c->code) & ~3ULL, name = 0, unread;

	frame->instruction = c->instruction_wide ? word_in(head, c->instruction) : half_in(head, c->instruction);
	frame->code = code;
	if (c->bytecode_copy != NONE)
		frame->code |= (u64)half_in(head, c->bytecode_copy) << 48;
	unread = word_at(code + c->name, &name);
	frame->name = is_outermost(c, head) ? name | OUTERMOST : name;
	return unread;
}

inlined void seal_word(struct stack *stack, u64 word)
{
	u64 seal = stack->seal;

	stack->seal = ((seal << 23 | seal >> 41) ^ word) * 0x9e3779b97f4a7c15ULL;
}

/* What was kept of a frame. Where the innermost one is does not count: it moves on. */
inlined void seal_frame(struct stack *stack, u64 at, const struct frame *frame, u32 callees)
{
	seal_word(stack, at);
	seal_word(stack, frame->code);
	if (callees)
		seal_word(stack, frame->instruction);
}

/*
 * What lies between a frame and the one it called, if side by side: its variables. They do not change while the callee
 * runs, but another call from the same place would most likely have left others.
 */
inlined u64 seal_variables(struct stack *stack, u64 caller, u64 callee)
{
	u64 length = callee - caller;

	if (!length || length > LONGEST_FRAME)
		return 0;
	if (read_user(stack->variables, length, (void *)caller))
		return 1;
	for (stack->word = 0; stack->word < length / 8; stack->word++) {
		may_leave_loop(left);
		seal_word(stack, stack->variables[stack->word & (LONGEST_FRAME / 8 - 1)]);
	}
	return 0;
left:
	return 1;
}

/* The frames of a Python thread. One that does not execute is being entered or left, and can only be the innermost. */
inlined void walk_python(const struct config *c, struct stack *stack, u64 state)
{
	u64 at = 0, callee = 0;

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
				struct frame *frame = &stack->frames[below_deepest(count)];

				if (keep_python(c, stack->head, frame))
					goto broken;
				if (stack->seal)
					seal_frame(stack, at, frame, count);
				stack->record.count = count + 1;
			} else if (stack->visits) {
				goto broken;
			}
		} else if (count) {
			stack->frames[below_deepest(count - 1)].name |= OUTERMOST;
		}
		if (stack->seal && seal_variables(stack, at, callee))
			goto broken;
		callee = at;
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
	if (stack->seal)
		seal_word(stack, depth);
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
		if (stack->seal)
			seal_frame(stack, at, frame, count);
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

#endif

/* The kernel's helpers, and what the programs and user space share: records, stacks, what is known of the target. */
#ifndef GILSCOPE_MODEL_H
#define GILSCOPE_MODEL_H

#include <linux/bpf.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;

#define SEC(name) __attribute__((section(name), used))
#define inlined static inline __attribute__((always_inline))

static void *(*map_lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)BPF_FUNC_map_update_elem;
static long (*map_delete)(void *map, const void *key) = (void *)BPF_FUNC_map_delete_elem;
static u64 (*now)(void) = (void *)BPF_FUNC_ktime_get_ns;
/* Ticks of the kernel's own clock, one every few milliseconds: next to free. */
static u64 (*kernel_ticks)(void) = (void *)BPF_FUNC_jiffies64;
static u64 (*current_id)(void) = (void *)BPF_FUNC_get_current_pid_tgid;
/* The same as another pid namespace numbers them, if it is the thread's own. */
static long (*ids_within)(u64 device, u64 inode, struct bpf_pidns_info *ids, u32 size) =
	(void *)BPF_FUNC_get_ns_current_pid_tgid;
static u64 (*cookie_of)(void *context) = (void *)BPF_FUNC_get_attach_cookie;
static u32 (*random_number)(void) = (void *)BPF_FUNC_get_prandom_u32;
static long (*read_user)(void *into, u64 size, const void *from) = (void *)BPF_FUNC_probe_read_user;
static long (*read_kernel)(void *into, u64 size, const void *from) = (void *)BPF_FUNC_probe_read_kernel;
static void *(*ring_reserve)(void *ring, u64 size, u64 flags) = (void *)BPF_FUNC_ringbuf_reserve;
static void (*ring_submit)(void *data, u64 flags) = (void *)BPF_FUNC_ringbuf_submit;
static void (*ring_discard)(void *data, u64 flags) = (void *)BPF_FUNC_ringbuf_discard;
static long (*ring_output)(void *ring, void *data, u64 size, u64 flags) = (void *)BPF_FUNC_ringbuf_output;

/* Frames kept of a stack, innermost first. */
#define DEEPEST 128
/* Frames visited, shims of the interpreter included. */
#define VISITS 256
/* The largest part of a frame that is read. */
#define LARGEST_HEAD 128
/* The largest distance between a frame and the one it called at which what lies between belongs to the caller. */
#define LONGEST_FRAME 2048
/* How often another thread's frames are read until two readings in a row agree. */
#define READINGS 6
/* Nanoseconds between two readings of the same lock's holder, at least: a waiter reads with the lock's mutex in hand. */
#define SPACING 100000
/* How far above the stack pointer a caller's variables are looked for. */
#define NEAR 4096
/* An offset in `config` that does not exist. */
#define NONE (~0ULL)
/* In the name of a frame, which is the address of no program: it is the outermost of its call of the evaluation loop. */
#define OUTERMOST (1ULL << 63)

/* What the cookie of a probe says: the libc function, or the step that the runtime itself reports. */
enum { SIGNAL, TIMED_WAIT, WAIT, INIT, STEPS };
/* What a call means, as far as it matters here. */
enum { WANT, ACQUIRED, RELEASED, YIELDED, OTHER };
/* What an address is to a lock. */
enum { COND, SWITCH_COND, WHOLE_LOCK };
/* Records that are stacks, beside those of calls, which carry their cookie. */
enum { WAIT_BEGAN = 16, AT_RELEASE, TICK, HOLDER, OWNER, PARKED, EVENT };
/* Records of sleeps that have to do with no lock of an interpreter: what for, and how they ended. */
enum { PARK_MUTEX = 24, PARK_SUSPENDED, PARK_EVENT, PARK_TIMED_EVENT, PARK_WOKEN, PARK_GAVE_UP };
/* What is the matter with a stack. */
enum { CUT = 1, BROKEN = 2, UNKNOWN_THREAD = 4, COLLECTING = 8 };
/* Runtimes. */
enum { UNKNOWN_RUNTIME, PYTHON, TOYVM };

/* Everything that depends on the target; written by user space once the target is known. All offsets in bytes. */
struct config {
	u64 runtime;
	/* The process whose ticks count. */
	u64 process;
	/* The pid namespace in which user space numbers threads, a file; no inode where it is the kernel's own. */
	u64 home_device;
	u64 home_inode;
	/* The same where the target numbers its own threads. */
	u64 inner_device;
	u64 inner_inode;
	/* In the lock: the state of the thread that took it last, and 32 bits that are 1 while it is held. */
	u64 last_holder;
	u64 locked;
	/* Whether the lock can be turned off: then who waits for it may come away without it. */
	u64 switchable;
	/* In a thread's state: the word by which its thread is recognised. */
	u64 owner_word;
	/* In a thread's state: pointer to the innermost frame, or to a C frame with that pointer at `top_inner`. */
	u64 top;
	u64 top_inner;
	/* The part of a frame that is read, and fields inside that part. */
	u64 head_start;
	u64 head_length;
	u64 previous;
	u64 code;
	u64 instruction;
	/* Whether the instruction is a pointer; else it is an index of 32 bits. */
	u64 instruction_wide;
	u64 bytecode_copy;
	u64 owner;
	u64 shim_owners;
	u64 executing;
	u64 executing_value;
	/* The byte that tells that a frame is the outermost of its call of the evaluation loop; without it, those are the
	 * frames called by shims, or all where there are no shims. */
	u64 entry;
	u64 entry_value;
	/* In a code object: pointer to the name. */
	u64 name;
	/* In a thread's state: pointer to its interpreter; if it does not exist, `collecting` is an address. */
	u64 interpreter;
	/* In an interpreter: a word of 32 bits, not 0 while garbage is collected. */
	u64 collecting;
	/* In an interpreter: pointer to its lock; if it does not exist, the lock is at `lock`. */
	u64 lock_pointer;
	u64 lock;
	/* Toy VM, in a thread record: how many frames there are, and where. */
	u64 depth;
	u64 frames;
	u64 frame_size;
	/* In a thread's state: the word that it is parked at while it is suspended. */
	u64 suspended;
	/* How many counters are read at lock events. */
	u64 metered;
	/* Which of them is the first of the processor's; none if there is no such number. */
	u64 leader;
	/* In the kernel's description of a thread: its number and that of its process, 32 bits each. */
	u64 task_pid;
	u64 task_tgid;
};

/* A call, or the head of a stack. */
struct record {
	u64 at;
	u32 tid;
	u8 kind;
	u8 flags;
	u16 count;
	u64 address;
};

struct frame {
	/* Pointer to the code object, with the number of the bytecode's copy in the highest 16 bits; or a function's number. */
	u64 code;
	/* Pointer, or index; or a line. */
	u64 instruction;
	/* By which user space knows that the code object is still the same; with OUTERMOST. */
	u64 name;
};

struct stack {
	struct record record;
	struct frame frames[DEEPEST];
	u8 head[LARGEST_HEAD];
	/* In memory, so that the verifier takes them for any number and one round of a loop for the next. */
	volatile u64 visits;
	volatile u64 readings;
	volatile u64 word;
	/* Of another thread's frames, which may change: equal for the same frames in the same state, but for where the
	 * innermost one is. 0 in a reading of the own ones. */
	volatile u64 seal;
	volatile u64 last_seal;
	u64 variables[LONGEST_FRAME / 8];
};

struct thread {
	/* Its state in the interpreter, and the word by which the state is recognised as its own. */
	u64 state;
	u64 owner;
	/* The lock that it waits for, or 0. */
	u64 wants;
	/* The number of the lock that it took last, plus one, or 0. */
	u64 lock;
	/* When the stack of a wait was read last, and whether that of the present one has been. */
	u64 told_at;
	u64 told;
	/* Of this thread alone: one that is preempted here must find its stack as it left it. */
	struct stack stack;
};

/* What an address is. */
struct role {
	u64 lock;
	u32 number;
	u32 part;
};

/* Where a lock is. */
struct seat {
	u64 lock;
	u64 cond;
	u64 switch_cond;
};

/* What is known of a lock; changed only while its mutex is held by the thread that makes the call. */
struct book {
	u64 waiters;
	/* The kernel's ticks when it was taken, or 0. */
	u64 since;
	/* When a waiter last read the frames of the holder, and when a stack was last read at a release. */
	u64 read_at;
	u64 noted_at;
	/* The thread that took it last, and with what state if that is known: as `threads` has it, too. */
	u64 holder;
	u64 state;
};

#endif

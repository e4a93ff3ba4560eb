//! The VM's own trace points: stapsdt notes (version 3) of the provider `gilscope_toyvm`, one argument each, the
//! address of the lock. The site is a five-byte nop that a kernel with optimized uprobes turns into a call.
//!
//! That call pushes onto the stack of the traced thread. The assembly therefore must not promise `nostack`: without
//! the promise the compiler keeps nothing in the red zone around it (kernel 6.18 destroys it at every hit).
#![expect(unsafe_code, reason = "the trace points are inline assembly")]

/// Defines a function that passes one trace point.
macro_rules! trace_point {
    ($(#[$doc:meta])* $function:ident, $name:literal) => {
        $(#[$doc])*
        #[inline(always)]
        pub fn $function(lock: usize) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the instruction is a nop; everything else describes it in sections that are never executed.
            unsafe {
                std::arch::asm!(
                    "990: .byte 0x0f, 0x1f, 0x44, 0x00, 0x00",
                    ".pushsection .note.stapsdt, \"?\", \"note\"",
                    ".balign 4",
                    ".4byte 992f - 991f, 994f - 993f, 3",
                    "991: .asciz \"stapsdt\"",
                    "992: .balign 4",
                    "993: .8byte 990b",
                    ".8byte _.stapsdt.base",
                    ".8byte 0",
                    ".asciz \"gilscope_toyvm\"",
                    concat!(".asciz \"", $name, "\""),
                    ".asciz \"8@%rdi\"",
                    "994: .balign 4",
                    ".popsection",
                    ".ifndef _.stapsdt.base",
                    ".pushsection .stapsdt.base, \"aGR\", \"progbits\", .stapsdt.base, comdat",
                    ".weak _.stapsdt.base",
                    ".hidden _.stapsdt.base",
                    "_.stapsdt.base: .space 1",
                    ".size _.stapsdt.base, 1",
                    ".popsection",
                    ".endif",
                    in("rdi") lock,
                );
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = lock;
        }
    };
}

trace_point!(
    /// The thread is about to sleep until the lock is released; repeated for every slice of one wait.
    lock_wait,
    "lock__wait"
);
trace_point!(
    /// The thread owns the lock from now on.
    lock_acquired,
    "lock__acquired"
);
trace_point!(
    /// The thread no longer owns the lock.
    lock_released,
    "lock__released"
);
trace_point!(
    /// The thread is about to sleep until another one owns the lock.
    lock_yield,
    "lock__yield"
);

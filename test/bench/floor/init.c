// The floor of a boot: the least that a guest's first process can do and still
// be seen. It writes one line on the console and powers off. Nothing else is
// in it, no C library either, so what a run of it takes is the VMM and the
// kernel alone.

#include <asm/unistd.h>

#define REBOOT_MAGIC1 0xfee1dead // linux/reboot.h
#define REBOOT_MAGIC2 672274793
#define REBOOT_RESTART 0x01234567

static long call(long number, long a, long b, long c, long d)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d;
	long result;
	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
	return result;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
#else
#error "guests are x86-64 or arm64"
#endif
}

void _start(void)
{
	static const char line[] = "floor\n";
	call(__NR_write, 1, (long)line, sizeof line - 1, 0);
	// The VMM is told that a reset is its end.
	call(__NR_reboot, REBOOT_MAGIC1, REBOOT_MAGIC2, REBOOT_RESTART, 0);
	for (;;)
		;
}

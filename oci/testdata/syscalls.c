/* syscalls makes system calls and prints their numbers with the errno of each,
 * 0 for success. An argument is a number and the call's arguments, with commas
 * between; "i386:" before it makes the call as a 32-bit program would. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long i386(const unsigned long *a)
{
	long result = -ENOSYS;
#ifdef __x86_64__
	register unsigned long r8 asm("r8"), r9 asm("r9"), r10 asm("r10"), r11 asm("r11");
	asm volatile("int $0x80"
		     : "=a"(result), "=r"(r8), "=r"(r9), "=r"(r10), "=r"(r11)
		     : "a"(a[0]), "b"(a[1]), "c"(a[2]), "d"(a[3]), "S"(a[4]), "D"(a[5])
		     : "memory");
#endif
	return (int)result;
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		unsigned long a[7] = { 0 };
		char *at = argv[i];
		int narrow = strncmp(at, "i386:", 5) == 0;
		long result;

		if (narrow)
			at += 5;
		for (int n = 0; n < 7; n++) {
			a[n] = strtoul(at, &at, 0);
			if (*at++ != ',')
				break;
		}
		if (narrow) {
			result = i386(a);
			errno = result < 0 ? -result : 0;
		} else {
			errno = 0;
			result = syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
		}
		printf("%s=%d\n", argv[i], result < 0 ? errno : 0);
	}
	return 0;
}

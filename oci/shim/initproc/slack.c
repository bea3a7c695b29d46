#include <stdlib.h>
#include <sys/prctl.h>

/* As in oci/timerslack, which says why; in nanoseconds. */
#define WIDE 2000000UL
#define USUAL 50000UL

extern void __real_nsexec(void);

/* The linker puts this in the place of nsexec, which libcontainer has called before the
 * Go runtime starts: threads that do not exist yet inherit what is set here. What is to
 * become a container's process has the usual slack before nsexec makes it, so that this
 * is its default, to which Go's init returns. */
void __wrap_nsexec(void)
{
	if (getenv("_LIBCONTAINER_INITPIPE") != NULL)
		prctl(PR_SET_TIMERSLACK, USUAL, 0, 0, 0);
	__real_nsexec();
	prctl(PR_SET_TIMERSLACK, WIDE, 0, 0, 0);
}

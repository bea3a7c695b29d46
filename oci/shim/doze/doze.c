#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "doze.h"

static void nothing(int signal)
{
	(void)signal;
}

/* ended says whether a child waits to be reaped. */
static int ended(void)
{
	siginfo_t info = { 0 };

	return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0;
}

/* parse reads the descriptors of a list and returns how many there are. */
static int parse(const char *list, struct pollfd *fds)
{
	int n = 0;
	char *end;

	while (n < DOZE_MAX) {
		long fd = strtol(list, &end, 10);

		if (end == list)
			break;
		fds[n++] = (struct pollfd){ .fd = (int)fd, .events = POLLIN };
		list = end;
	}
	return n;
}

/* doze returns when there is something to do, at the latest when it fails. The
 * signals that a shim catches shall not end it here either; Go's runtime sets
 * handlers of its own, and a child that ends between the look and the wait ends
 * the wait, since its signal is let in only there. */
static void __attribute__((constructor)) doze(void)
{
	static const int caught[] = { SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE };
	static struct pollfd fds[DOZE_MAX];
	const struct sigaction act = { .sa_handler = nothing };
	const char *list = getenv(DOZE_ENV);
	sigset_t children, before, waiting;
	int n;

	if (list == NULL)
		return;
	n = parse(list, fds);
	unsetenv(DOZE_ENV);
	prctl(PR_SET_NAME, "criruntime-shim");
	for (size_t i = 0; i < sizeof(caught) / sizeof(caught[0]); i++)
		sigaction(caught[i], &act, NULL);
	sigemptyset(&children);
	sigaddset(&children, SIGCHLD);
	sigprocmask(SIG_BLOCK, &children, &before);
	waiting = before;
	sigdelset(&waiting, SIGCHLD);
	while (!ended() && ppoll(fds, n, NULL, &waiting) < 0 && errno == EINTR)
		;
	sigprocmask(SIG_SETMASK, &before, NULL);
}

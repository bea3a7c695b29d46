#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534

/* init_answer is what the process that makes the init writes. */
struct init_answer {
	int32_t error; /* an errno, or 0 */
	int32_t pid;
};

/* leave_host makes an empty, read-only tmpfs the root directory and detaches
 * the host's mounts, which this copy of the namespace would otherwise hold. */
static int leave_host(void)
{
	const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("pod-init", "/proc", "tmpfs", flags, "mode=0555,size=4k,nr_inodes=2") < 0 ||
	    chdir("/proc") < 0 ||
	    syscall(SYS_pivot_root, ".", ".") < 0 ||
	    umount2(".", MNT_DETACH) < 0 ||
	    chdir("/") < 0)
		return -1;
	return mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, NULL);
}

/* drop_privileges makes the process nobody. In a user namespace that has no
 * nobody it stays its root, who can do nothing. */
static int drop_privileges(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { { 0 } };

	if (setgroups(0, NULL) < 0 ||
	    (setresgid(NOBODY, NOBODY, NOBODY) < 0 && errno != EINVAL) ||
	    (setresuid(NOBODY, NOBODY, NOBODY) < 0 && errno != EINVAL) ||
	    syscall(SYS_capset, &header, none) < 0 ||
	    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return -1;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

/* become_owner enters the user namespace as its root. Only a process with one
 * thread can. */
static int become_owner(int userns)
{
	if (setns(userns, CLONE_NEWUSER) < 0 ||
	    setgroups(0, NULL) < 0 ||
	    setresgid(0, 0, 0) < 0 ||
	    setresuid(0, 0, 0) < 0)
		return -1;
	return 0;
}

/* fork_init goes on as process 1 of a new PID namespace that the user namespace
 * owns. It is the shim's child; this process tells its number and ends. Both
 * write to the lease, so the init waits for that end: it closes the gate. */
static void fork_init(int userns, int lease)
{
	const unsigned long flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;
	struct init_answer answer = { 0 };
	long pid = -1;
	int gate[2];
	char none;

	if (pipe2(gate, O_CLOEXEC) == 0 && become_owner(userns) == 0)
		pid = syscall(SYS_clone, flags | CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid == 0) {
		close(gate[1]);
		while (read(gate[0], &none, 1) < 0 && errno == EINTR)
			;
		close(gate[0]);
		close(userns);
		return;
	}
	if (pid < 0)
		answer.error = errno ? errno : EPERM;
	answer.pid = pid;
	_exit(write(lease, &answer, sizeof(answer)) != sizeof(answer));
}

/* reap_until reaps orphans until the other end of the lease is closed. */
static void reap_until(int lease, int children)
{
	struct pollfd fds[2] = {
		{ .fd = lease, .events = POLLIN },
		{ .fd = children, .events = POLLIN },
	};
	struct signalfd_siginfo info;

	for (;;) {
		if (poll(fds, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			return;
		}
		if (fds[0].revents)
			return;
		if (fds[1].revents && read(children, &info, sizeof(info)) < 0 && errno != EINTR)
			return;
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
}

/* pod_init runs before the Go runtime and returns at once in every process but
 * the one that Start has made. It answers with one byte: 0, or an errno. */
__attribute__((constructor)) static void pod_init(void)
{
	const char *fd = getenv("_CRIRUNTIME_POD_INIT");
	const char *userns = getenv("_CRIRUNTIME_POD_USER_NS");
	unsigned char result = 0;
	int lease, children;
	sigset_t set;

	if (!fd)
		return;
	lease = atoi(fd);
	if (userns)
		fork_init(atoi(userns), lease);
	prctl(PR_SET_NAME, "pod-init", 0, 0, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_SETMASK, &set, NULL);
	children = signalfd(-1, &set, SFD_CLOEXEC);
	if (children < 0 || getpid() != 1 || leave_host() < 0 || drop_privileges() < 0)
		result = errno ? errno : EPERM;
	if (write(lease, &result, 1) == 1 && result == 0) {
		close(STDIN_FILENO);
		close(STDOUT_FILENO);
		close(STDERR_FILENO);
		reap_until(lease, children);
	}
	_exit(result);
}

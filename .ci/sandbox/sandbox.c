/* Runs a command under the restrictions of a systemd unit that seccomp enforces,
 * where systemd does not run: SystemCallFilter, RestrictAddressFamilies,
 * MemoryDenyWriteExecute, RestrictNamespaces, NoNewPrivileges.
 *
 *	sandbox SYSCALLS FAMILIES COMMAND [ARGUMENT...]
 *
 * SYSCALLS and FAMILIES are comma-separated lists of what is allowed, families by
 * number. Everything else fails with EPERM, as SystemCallErrorNumber=EPERM has it; a
 * family that is not allowed with EAFNOSUPPORT. */
#include <errno.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

static const unsigned long namespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
	CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;

static void must(int status, const char *what) {
	if (status != 0) {
		fprintf(stderr, "sandbox: %s: %s\n", what, strerror(status < 0 ? -status : status));
		exit(125);
	}
}

/* Allows one call, with the arguments that the unit allows. */
static void allow(scmp_filter_ctx filter, const char *name, char *families) {
	int call = seccomp_syscall_resolve_name(name);
	if (call == __NR_SCMP_ERROR || call < 0)
		return; /* of another architecture */
	if (strcmp(name, "socket") == 0) {
		for (char *f = strtok(families, ","); f != NULL; f = strtok(NULL, ","))
			must(seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 1, SCMP_A0(SCMP_CMP_EQ, atoi(f))), name);
		return;
	}
	if (strcmp(name, "mmap") == 0) {
		const unsigned long both = PROT_WRITE | PROT_EXEC;
		must(seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 1, SCMP_A2(SCMP_CMP_MASKED_EQ, both, 0)), name);
		must(seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 1, SCMP_A2(SCMP_CMP_MASKED_EQ, both, PROT_WRITE)), name);
		must(seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 1, SCMP_A2(SCMP_CMP_MASKED_EQ, both, PROT_EXEC)), name);
		return;
	}
	if (strcmp(name, "mprotect") == 0 || strcmp(name, "pkey_mprotect") == 0) {
		must(seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)), name);
		return;
	}
	if (strcmp(name, "clone") == 0) {
		must(seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 1, SCMP_A0(SCMP_CMP_MASKED_EQ, namespaces, 0)), name);
		return;
	}
	if (strcmp(name, "unshare") == 0 || strcmp(name, "setns") == 0)
		return;
	if (strcmp(name, "clone3") == 0) { /* its flags cannot be seen: as systemd does, callers are sent to clone */
		must(seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), call, 0), name);
		return;
	}
	must(seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 0), name);
}

int main(int argc, char **argv) {
	char *save = NULL;
	if (argc < 4) {
		fprintf(stderr, "usage: sandbox SYSCALLS FAMILIES COMMAND [ARGUMENT...]\n");
		return 125;
	}
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	if (filter == NULL) {
		fprintf(stderr, "sandbox: no filter\n");
		return 125;
	}
	for (char *name = strtok_r(argv[1], ",", &save); name != NULL; name = strtok_r(NULL, ",", &save))
		allow(filter, name, argv[2]);
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges");
	must(seccomp_load(filter), "load the filter");
	execv(argv[3], argv + 3);
	perror(argv[3]);
	return 125;
}

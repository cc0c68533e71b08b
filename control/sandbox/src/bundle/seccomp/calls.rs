//! Decides which system calls a sandbox makes whatever their arguments, and which are refused although the kernel has them.
//!
//! Names of every architecture, and of newer kernels than this one: what a runtime does not know it leaves out, and then it is a call
//! that this kernel seems not to have.

/// Calls that need no look at their arguments.
pub(super) fn allowed() -> Vec<&'static str> {
    names(ALLOWED)
}

/// Calls that fail with EPERM, as where a capability is missing.
pub(super) fn refused() -> Vec<&'static str> {
    names(REFUSED)
}

fn names(groups: &[&'static str]) -> Vec<&'static str> {
    groups.iter().flat_map(|group| group.split_whitespace()).collect()
}

/// What the usual container profile allows a program without further capabilities. Devices cannot be made for want of one; the
/// kernel takes `uretprobe` only from a probe of the host on a function that returns.
const ALLOWED: &[&str] = &[
    // files and folders
    "access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 \
     fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 \
     fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync \
     ftruncate ftruncate64 futimesat getcwd getdents getdents64 getxattr getxattrat inotify_add_watch inotify_init \
     inotify_init1 inotify_rm_watch lchown lchown32 lgetxattr link linkat listxattr listxattrat llistxattr _llseek \
     lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat newfstatat open openat openat2 readlink \
     readlinkat removexattr removexattrat rename renameat renameat2 rmdir setxattr setxattrat stat stat64 statfs \
     statfs64 statx symlink symlinkat sync sync_file_range sync_file_range2 arm_sync_file_range syncfs truncate \
     truncate64 umask unlink unlinkat utime utimensat utimensat_time64 utimes",
    // reading, writing, waiting for either
    "epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd \
     eventfd2 io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit pipe pipe2 \
     poll ppoll ppoll_time64 pread64 preadv preadv2 pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read \
     readahead readv select _newselect sendfile sendfile64 splice tee vmsplice write writev",
    // sockets, once there is one
    "accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64 \
     recvmsg send sendmmsg sendmsg sendto setsockopt shutdown",
    // memory
    "brk cachestat madvise map_shadow_stack memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 \
     mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease \
     remap_file_pages",
    // processes, threads, signals
    "arch_prctl arm_fadvise64_64 breakpoint cacheflush set_tls execve execveat exit exit_group fork futex \
     futex_requeue futex_time64 futex_wait futex_waitv futex_wake get_robust_list get_thread_area getcpu getpgid \
     getpgrp getpid getppid getpriority getsid gettid ioprio_get ioprio_set kill membarrier pause pidfd_open \
     pidfd_send_signal prctl restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo \
     rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max \
     sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval \
     sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield \
     set_robust_list set_thread_area set_tid_address setpgid setpriority setsid sigaltstack signal signalfd \
     signalfd4 sigpending sigprocmask sigreturn sigsuspend tgkill times tkill uretprobe vfork wait4 waitid waitpid",
    // who it is, and what it may use
    "capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid getresgid32 \
     getresuid getresuid32 getrlimit getrusage getuid getuid32 landlock_add_rule landlock_create_ruleset \
     landlock_restrict_self prlimit64 seccomp setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups \
     setgroups32 setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit \
     setuid setuid32 sysinfo ugetrlimit uname",
    // time
    "alarm clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 \
     getitimer getrandom gettimeofday nanosleep setitimer time timer_create timer_delete timer_getoverrun \
     timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 \
     timerfd_settime timerfd_settime64",
    // shared memory, semaphores and queues of its own namespace
    "ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 \
     mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt \
     shmget",
];

/// What programs may ask for and none gets.
const REFUSED: &[&str] = &[
    // file systems and namespaces
    "mount umount umount2 pivot_root chroot setns fsopen fsconfig fsmount fspick move_mount open_tree \
     open_tree_attr mount_setattr statmount listmount listns open_by_handle_at name_to_handle_at quotactl \
     quotactl_fd nfsservctl fanotify_init fanotify_mark file_setattr",
    // the kernel itself
    "init_module finit_module delete_module create_module get_kernel_syms query_module kexec_load kexec_file_load \
     bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register reboot swapon swapoff acct \
     syslog lookup_dcookie uselib sysfs _sysctl ustat iopl ioperm vm86 vm86old modify_ldt vhangup sethostname \
     setdomainname lsm_set_self_attr",
    // the machine's clock
    "settimeofday clock_settime clock_settime64 clock_adjtime clock_adjtime64 adjtimex stime",
    // other processes and keys
    "ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_getfd keyctl add_key request_key \
     get_mempolicy mbind set_mempolicy set_mempolicy_home_node migrate_pages move_pages",
];

complete -c einhyrningsins -s b -l bind -d 'Address to listen on, as :8080 or unix:PATH' -r
complete -c einhyrningsins -s l -l backlog -d 'Length of the queue of connections that wait for a worker [default: the system\'s maximum]' -r
complete -c einhyrningsins -s n -l number -d 'Number of workers' -r
complete -c einhyrningsins -l ack-mode -d 'Consider a worker up after SECONDS alive, or, with "manual", only when it acks' -r
complete -c einhyrningsins -l ack-timeout -d 'In manual mode: how long a worker may take to ack; 0 for no limit' -r
complete -c einhyrningsins -s r -l retries -d 'Spawns in a row without an ack after which a slot is given up [default: 3 at the first start and in an upgrade, no limit once the release has been up]' -r
complete -c einhyrningsins -s s -l seconds -d 'Shortest time between two spawns of one slot' -r
complete -c einhyrningsins -s t -l signal-timeout -d 'Kill a worker this long after its stop signal' -r
complete -c einhyrningsins -l drain-warning -d 'Log a warning if old workers still serve this long after their stop signal; 0 for never' -r
complete -c einhyrningsins -l shrink-grace -d 'With reuseport in -b: how long a worker whose slot is removed still serves connections that are on their way to it, before it is asked to stop' -r
complete -c einhyrningsins -l max-unacked -d 'How many workers may be unacked at a time, except at the first start and in fleets' -r
complete -c einhyrningsins -l max-upgrade-additional -d 'How many workers above COUNT may live during an upgrade, including draining ones [default: no limit]' -r
complete -c einhyrningsins -l chdir -d 'Directory to run in, resolved again at each upgrade [default: the current one, by its name in PWD]' -r -F
complete -c einhyrningsins -l env-file -d 'File of variables for the workers, as lines NAME=value, which override inherited ones. Read again at each upgrade; a relative path is relative to the directory of --chdir' -r -F
complete -c einhyrningsins -l max-age -d 'Replace a worker that has been up for SECONDS, plus a random part of JITTER; one worker at a time, after its successor has acked [default: never]' -r
complete -c einhyrningsins -l max-rss -d 'Replace a worker that uses more than SIZE of memory (RSS), in bytes, or with K, M, G or T for powers of 1024 [default: never]' -r
complete -c einhyrningsins -l ping-timeout -d 'Replace, then kill, a worker that has pinged (worker:ping or WATCHDOG=1) and then been silent for SECONDS [default: never]' -r
complete -c einhyrningsins -l drop-env-var -d 'Inherited variable to hide from the workers, repeatable' -r
complete -c einhyrningsins -l nice -d 'Nice values of the master and of the workers' -r
complete -c einhyrningsins -l user -d 'User and group of the workers, by name or number, with the user\'s supplementary groups. The master keeps its own [default: the master\'s]' -r
complete -c einhyrningsins -l group -d 'Group of the workers, by name or number [default: the user\'s]' -r
complete -c einhyrningsins -l umask -d 'File mode creation mask of the workers, in octal [default: the master\'s]' -r
complete -c einhyrningsins -l rlimit -d 'Resource limit of the workers, repeatable: NAME is that of setrlimit(2) without RLIMIT_, such as nofile; limits are numbers or "infinity". SOFT alone sets both' -r
complete -c einhyrningsins -l oom-score-adj -d 'How readily the kernel kills the workers when memory runs out, from -1000 to 1000 [default: the master\'s]' -r
complete -c einhyrningsins -l cpu-affinity -d 'CPUs of the workers by slot: sets such as 0,1,2-3 or 0+4,1+5, the first for slot 0 and so on in turn; "auto" for one CPU each [default: the master\'s]' -r
complete -c einhyrningsins -s c -l command-name -d 'Name of this master, for ps and for its control socket, /tmp/einhorn-NAME.sock' -r
complete -c einhyrningsins -s d -l socket-path -d 'Control socket [default: /tmp/einhorn.sock]' -r -F
complete -c einhyrningsins -l control-mode -d 'Mode of the control socket, in octal, such as 660; only owner and group may have access [default: 600]' -r
complete -c einhyrningsins -l control-group -d 'Group of the control socket, by name or number; with --control-mode [default: the master\'s]' -r
complete -c einhyrningsins -l observe-group -d 'Group, by name or number, whose members may ask questions on the control socket, and nothing else; not with --control-mode' -r
complete -c einhyrningsins -l notify-mode -d 'Mode of the notify socket, in octal, such as 666 for workers that change their user themselves [default: 600, or 666 if master and workers are root and there is no --user]' -r
complete -c einhyrningsins -s e -l pidfile -d 'File to write the master\'s pid to' -r -F
complete -c einhyrningsins -s f -l lockfile -d 'File to lock as long as the master lives' -r -F
complete -c einhyrningsins -l keep-fd -d 'Inherited descriptor to keep open, such as that of a lock; repeatable. The master closes other inherited descriptors that it does not use' -r
complete -c einhyrningsins -l pass-fd -d 'Inherited descriptor to keep open and to pass to the workers, with the same number; repeatable' -r
complete -c einhyrningsins -l reexec-as -d 'Command to run in the master\'s place when it replaces itself, split into words as a shell does; the options of the re-exec follow it [default: the program as it was called]' -r
complete -c einhyrningsins -l reexec-timeout -d 'How long the check of a new master may take before it counts as failed' -r
complete -c einhyrningsins -l with-state-fd -d 'The descriptor with the state to go on from; the rest of the command line does not count then' -r
complete -c einhyrningsins -l returned -d 'The signal that ended the new master, whose predecessor is back' -r
complete -c einhyrningsins -l log-format -d 'Format of the log on standard error' -r -f -a "text\t'A line for people'
json\t'A JSON object per line'"
complete -c einhyrningsins -l log-file -d 'File for the log, instead of standard error; "einhyrningsinsctl reopen" opens it again' -r -F
complete -c einhyrningsins -l check -d 'Command that checks a new release, on a trial worker of its own, before an upgrade replaces the first worker' -r
complete -c einhyrningsins -l check-timeout -d 'How long the check of a release may take before it counts as failed' -r
complete -c einhyrningsins -l log-workers -d 'Where workers write: "inherit", to the master\'s standard output and error, or "journal[=NAME]", to journald' -r
complete -c einhyrningsins -l history -d 'File that keeps the history of "einhyrningsinsctl history" when the master stops' -r -F
complete -c einhyrningsins -l on-event -d 'Command to run when all workers are up, an upgrade is done or has failed, a worker has died, or a slot was given up' -r
complete -c einhyrningsins -l options-file -d 'File of options, one per line as on the command line, read at the start and at each upgrade' -r -F
complete -c einhyrningsins -l color -d 'When to use colours: in help, in errors, and in the log on a terminal' -r -f -a "auto\t''
always\t''
never\t''"
complete -c einhyrningsins -l graceful-signal -d 'Signal that asks a worker to stop, or the name of a server, for the signal on which that drains: apache, gunicorn, haproxy, hypercorn, nginx, php-fpm, puma, starlet, starman, unicorn, uvicorn. --stop-signal is the same option [default: each worker\'s own convention]' -r
complete -c einhyrningsins -s 4 -l ipv4-only -d 'Listen on IPv4 addresses only'
complete -c einhyrningsins -s 6 -l ipv6-only -d 'Listen on IPv6 addresses only'
complete -c einhyrningsins -l capture-startup -d 'Show the last lines that a failed worker wrote'
complete -c einhyrningsins -l stop-group -d 'Send stop signals to the process group of a worker, not to the worker alone'
complete -c einhyrningsins -s k -l kill-children-on-exit -d 'Send the workers the graceful signal when the master dies, for whatever reason'
complete -c einhyrningsins -l no-new-privs -d 'Keep the workers from gaining privileges through programs that they execute, such as set-user-ID ones'
complete -c einhyrningsins -s g -l command-socket-as-fd -d 'Give each worker a connection to the control socket; its descriptor is in EINHORN_SOCK_FD'
complete -c einhyrningsins -l upgrade-check -d 'Tell by the exit code whether this program can go on from the state, and change nothing'
complete -c einhyrningsins -s v -l verbose -d 'Log more; repeatable'
complete -c einhyrningsins -s q -l quiet -d 'Log less: warnings and errors; twice: only errors'
complete -c einhyrningsins -l syslog -d 'Send warnings and errors to syslog as well'
complete -c einhyrningsins -s h -l help -d 'Print help (-h: the usual options, --help: all)'
complete -c einhyrningsins -s V -l version -d 'Print the version'
complete -c einhyrningsins -s m -l manual -d 'Consider a worker up only when it acks'
complete -c einhyrningsins -l check-first -d 'Also check the release of the first start'
complete -c einhyrningsins -l dry-run -d 'Check whether a start would work, and spawn nothing'

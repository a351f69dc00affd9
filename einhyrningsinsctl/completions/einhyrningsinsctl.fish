# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_einhyrningsinsctl_global_optspecs
    string join \n d/socket-path= c/command-name= trust-owner= H/host= e/execute= color= json timeout= h/help V/version
end

function __fish_einhyrningsinsctl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_einhyrningsinsctl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_einhyrningsinsctl_using_subcommand
    set -l cmd (__fish_einhyrningsinsctl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -s d -l socket-path -d 'Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]' -r -F -a '(einhyrningsinsctl __complete sockets -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -s c -l command-name -d 'Name of the master: short for -d /tmp/einhorn-NAME.sock' -r -f -a '(einhyrningsinsctl __complete names -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -l trust-owner -d 'Trust a master of this user, by name or number, even if others may put a socket into the directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -s H -l host -d 'Run the command on HOST: short for ssh -- HOST einhyrningsinsctl COMMAND' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -s e -l execute -d 'Run these commands, separated by ";", up to the first that fails' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -l color -d 'When to use colours: auto, always or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -l timeout -d 'Give up on the answer after this many seconds [default: 10, but no limit for upgrades and other rollouts, reload and events]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -l json -d 'Print each reply as JSON, one per line'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -s h -l help -d 'Print help'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -s V -l version -d 'Print version'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -f -a "status" -d 'Show the master, its listeners and every worker'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -f -a "upgrade" -d 'Replace every worker with one from the current code, one by one'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -f -a "upgrade_fleet" -d 'Replace every worker, all new ones at once'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -f -a "rollback" -d 'Go back to the previous release'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -f -a "inc" -d 'Add COUNT workers [default: 1]'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -f -a "dec" -d 'Remove COUNT workers, draining them [default: 1]'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -f -a "set_workers" -d 'Set the number of workers'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -f -a "respawn" -d 'Fill empty slots now, including those that were given up'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -f -a "signal" -d 'Send signals to every worker; without any, list the signals'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -f -a "replace" -d 'Replace one worker, its successor first'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -f -a "die" -d 'Stop the workers gracefully, then the master'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -f -a "reload" -d 'Replace the master itself and keep the workers'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -f -a "history" -d 'Show the last rollouts: when, who asked, which release, and how each ended'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -f -a "metrics" -d 'Show counts, queues, memory and CPU time, for Prometheus'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -f -a "events" -d 'Show events as they happen'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -f -a "state" -d 'Show the master\'s whole state, for programs and bug reports'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -f -a "louder" -d 'Make the master\'s log more verbose'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -f -a "quieter" -d 'Make the master\'s log less verbose'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -f -a "reopen" -d 'Open the log file again, after a rotation'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -f -a "version" -d 'Show the versions of the master and the protocol'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -f -a "help" -d 'List the commands'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -f -a "config" -d 'Change options of the running master, by a map in YAML'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -f -a "list" -d 'List the masters that you may control'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -f -a "probe" -d 'Check a server over HTTP'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -f -a "serve" -d 'Serve metrics and a page over HTTP'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_needs_command" -f -a "top" -d 'Watch a master, full-screen, with keys to control it'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand status" -s d -l socket-path -d 'Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]' -r -F -a '(einhyrningsinsctl __complete sockets -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand status" -s c -l command-name -d 'Name of the master: short for -d /tmp/einhorn-NAME.sock' -r -f -a '(einhyrningsinsctl __complete names -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand status" -l trust-owner -d 'Trust a master of this user, by name or number, even if others may put a socket into the directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand status" -l color -d 'When to use colours: auto, always or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand status" -l timeout -d 'Give up on the answer after this many seconds [default: 10, but no limit for upgrades and other rollouts, reload and events]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand status" -l state -d 'Show only workers in this state, or only slots without a worker' -r -f -a "starting\t'Workers that have not acked'
up\t'Workers that have acked'
draining\t'Workers that were asked to stop'
empty\t'Slots without a worker'"
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand status" -l watch -d 'Repeat until Ctrl-C, every 2 seconds or as often as given' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand status" -l json -d 'Print each reply as JSON, one per line'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand status" -l ready -d 'Print nothing; for probes: exit with 0 if every slot has a worker up and the master is not stopping, otherwise with 1 and the reason on standard error'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand status" -l brief -d 'Show only the summary: the master, its workers in numbers, the upgrade, and warnings'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade" -s d -l socket-path -d 'Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]' -r -F -a '(einhyrningsinsctl __complete sockets -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade" -s c -l command-name -d 'Name of the master: short for -d /tmp/einhorn-NAME.sock' -r -f -a '(einhyrningsinsctl __complete names -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade" -l trust-owner -d 'Trust a master of this user, by name or number, even if others may put a socket into the directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade" -l color -d 'When to use colours: auto, always or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade" -l timeout -d 'Give up on the answer after this many seconds [default: 10, but no limit for upgrades and other rollouts, reload and events]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade" -l canary -d 'Replace this many workers first, and the rest after the soak' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade" -l soak -d 'How long the soak lasts [default: until "upgrade --continue"]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade" -l check -d 'Check the new release with this command, in place of the master\'s own (--check)' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade" -l soak-check -d 'Check the canaries with this command during the soak, at once and then repeatedly' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade" -l every -d 'Time from the end of one check of the canaries to the start of the next [default: 10]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade" -l soak-failures -d 'Fail the upgrade after this many failed checks of the canaries [default: 1]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade" -l label -d 'Name of the release in "history" [default: RELEASE of --env-file, or the directory\'s name]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade" -l json -d 'Print each reply as JSON, one per line'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade" -l fleet -d 'Start all new workers at once; the old ones stop when all new ones have acked'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade" -l wait -d 'If other upgrades run or wait, begin after them instead of being refused'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade" -l keep-master -d 'Upgrade the workers even if the master cannot be replaced'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade" -l drained -d 'Return when the last old worker has exited, however long that takes'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade" -l no-check -d 'Do not check the new release, even if the master has the option --check'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade" -l continue -d 'End the soak of the running upgrade and replace the rest'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade" -l abort -d 'Abort the running upgrade and roll it back; exit code 0 once that is done'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade" -l follow -d 'Follow the running upgrade until it ends'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade" -l no-wait -d 'Return as soon as the upgrade has begun or is in the queue'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade" -l quiet -d 'Print no progress, only how it ended'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade_fleet" -s d -l socket-path -d 'Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]' -r -F -a '(einhyrningsinsctl __complete sockets -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade_fleet" -s c -l command-name -d 'Name of the master: short for -d /tmp/einhorn-NAME.sock' -r -f -a '(einhyrningsinsctl __complete names -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade_fleet" -l trust-owner -d 'Trust a master of this user, by name or number, even if others may put a socket into the directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade_fleet" -l color -d 'When to use colours: auto, always or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade_fleet" -l timeout -d 'Give up on the answer after this many seconds [default: 10, but no limit for upgrades and other rollouts, reload and events]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade_fleet" -l json -d 'Print each reply as JSON, one per line'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade_fleet" -l no-wait -d 'Return as soon as the upgrade has begun or is in the queue'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade_fleet" -l quiet -d 'Print no progress, only how it ended'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand upgrade_fleet" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand rollback" -s d -l socket-path -d 'Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]' -r -F -a '(einhyrningsinsctl __complete sockets -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand rollback" -s c -l command-name -d 'Name of the master: short for -d /tmp/einhorn-NAME.sock' -r -f -a '(einhyrningsinsctl __complete names -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand rollback" -l trust-owner -d 'Trust a master of this user, by name or number, even if others may put a socket into the directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand rollback" -l color -d 'When to use colours: auto, always or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand rollback" -l timeout -d 'Give up on the answer after this many seconds [default: 10, but no limit for upgrades and other rollouts, reload and events]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand rollback" -l json -d 'Print each reply as JSON, one per line'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand rollback" -l no-wait -d 'Return as soon as the upgrade has begun or is in the queue'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand rollback" -l quiet -d 'Print no progress, only how it ended'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand rollback" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand inc" -s d -l socket-path -d 'Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]' -r -F -a '(einhyrningsinsctl __complete sockets -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand inc" -s c -l command-name -d 'Name of the master: short for -d /tmp/einhorn-NAME.sock' -r -f -a '(einhyrningsinsctl __complete names -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand inc" -l trust-owner -d 'Trust a master of this user, by name or number, even if others may put a socket into the directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand inc" -l color -d 'When to use colours: auto, always or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand inc" -l timeout -d 'Give up on the answer after this many seconds [default: 10, but no limit for upgrades and other rollouts, reload and events]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand inc" -l json -d 'Print each reply as JSON, one per line'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand inc" -s h -l help -d 'Print help'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand dec" -s d -l socket-path -d 'Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]' -r -F -a '(einhyrningsinsctl __complete sockets -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand dec" -s c -l command-name -d 'Name of the master: short for -d /tmp/einhorn-NAME.sock' -r -f -a '(einhyrningsinsctl __complete names -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand dec" -l trust-owner -d 'Trust a master of this user, by name or number, even if others may put a socket into the directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand dec" -l color -d 'When to use colours: auto, always or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand dec" -l timeout -d 'Give up on the answer after this many seconds [default: 10, but no limit for upgrades and other rollouts, reload and events]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand dec" -l json -d 'Print each reply as JSON, one per line'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand dec" -s h -l help -d 'Print help'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand set_workers" -s d -l socket-path -d 'Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]' -r -F -a '(einhyrningsinsctl __complete sockets -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand set_workers" -s c -l command-name -d 'Name of the master: short for -d /tmp/einhorn-NAME.sock' -r -f -a '(einhyrningsinsctl __complete names -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand set_workers" -l trust-owner -d 'Trust a master of this user, by name or number, even if others may put a socket into the directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand set_workers" -l color -d 'When to use colours: auto, always or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand set_workers" -l timeout -d 'Give up on the answer after this many seconds [default: 10, but no limit for upgrades and other rollouts, reload and events]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand set_workers" -l json -d 'Print each reply as JSON, one per line'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand set_workers" -s h -l help -d 'Print help'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand respawn" -s d -l socket-path -d 'Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]' -r -F -a '(einhyrningsinsctl __complete sockets -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand respawn" -s c -l command-name -d 'Name of the master: short for -d /tmp/einhorn-NAME.sock' -r -f -a '(einhyrningsinsctl __complete names -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand respawn" -l trust-owner -d 'Trust a master of this user, by name or number, even if others may put a socket into the directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand respawn" -l color -d 'When to use colours: auto, always or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand respawn" -l timeout -d 'Give up on the answer after this many seconds [default: 10, but no limit for upgrades and other rollouts, reload and events]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand respawn" -l json -d 'Print each reply as JSON, one per line'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand respawn" -s h -l help -d 'Print help'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand signal" -s d -l socket-path -d 'Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]' -r -F -a '(einhyrningsinsctl __complete sockets -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand signal" -s c -l command-name -d 'Name of the master: short for -d /tmp/einhorn-NAME.sock' -r -f -a '(einhyrningsinsctl __complete names -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand signal" -l trust-owner -d 'Trust a master of this user, by name or number, even if others may put a socket into the directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand signal" -l color -d 'When to use colours: auto, always or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand signal" -l timeout -d 'Give up on the answer after this many seconds [default: 10, but no limit for upgrades and other rollouts, reload and events]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand signal" -l slot -d 'Signal only the worker in this slot' -r -f -a '(einhyrningsinsctl __complete slots -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand signal" -l pid -d 'Signal only the worker with this pid' -r -f -a '(einhyrningsinsctl __complete pids -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand signal" -l json -d 'Print each reply as JSON, one per line'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand signal" -l draining -d 'Signal only workers that are draining'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand signal" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand replace" -s d -l socket-path -d 'Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]' -r -F -a '(einhyrningsinsctl __complete sockets -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand replace" -s c -l command-name -d 'Name of the master: short for -d /tmp/einhorn-NAME.sock' -r -f -a '(einhyrningsinsctl __complete names -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand replace" -l trust-owner -d 'Trust a master of this user, by name or number, even if others may put a socket into the directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand replace" -l color -d 'When to use colours: auto, always or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand replace" -l timeout -d 'Give up on the answer after this many seconds [default: 10, but no limit for upgrades and other rollouts, reload and events]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand replace" -l slot -d 'The worker in this slot' -r -f -a '(einhyrningsinsctl __complete slots -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand replace" -l pid -d 'The worker with this pid' -r -f -a '(einhyrningsinsctl __complete pids -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand replace" -l json -d 'Print each reply as JSON, one per line'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand replace" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand die" -s d -l socket-path -d 'Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]' -r -F -a '(einhyrningsinsctl __complete sockets -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand die" -s c -l command-name -d 'Name of the master: short for -d /tmp/einhorn-NAME.sock' -r -f -a '(einhyrningsinsctl __complete names -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand die" -l trust-owner -d 'Trust a master of this user, by name or number, even if others may put a socket into the directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand die" -l color -d 'When to use colours: auto, always or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand die" -l timeout -d 'Give up on the answer after this many seconds [default: 10, but no limit for upgrades and other rollouts, reload and events]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand die" -l delay -d 'Wait this long before stopping it, so that load balancers can take it out first' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand die" -l json -d 'Print each reply as JSON, one per line'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand die" -l wait -d 'Return when the master has exited'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand die" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand reload" -s d -l socket-path -d 'Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]' -r -F -a '(einhyrningsinsctl __complete sockets -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand reload" -s c -l command-name -d 'Name of the master: short for -d /tmp/einhorn-NAME.sock' -r -f -a '(einhyrningsinsctl __complete names -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand reload" -l trust-owner -d 'Trust a master of this user, by name or number, even if others may put a socket into the directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand reload" -l color -d 'When to use colours: auto, always or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand reload" -l timeout -d 'Give up on the answer after this many seconds [default: 10, but no limit for upgrades and other rollouts, reload and events]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand reload" -l json -d 'Print each reply as JSON, one per line'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand reload" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand history" -s d -l socket-path -d 'Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]' -r -F -a '(einhyrningsinsctl __complete sockets -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand history" -s c -l command-name -d 'Name of the master: short for -d /tmp/einhorn-NAME.sock' -r -f -a '(einhyrningsinsctl __complete names -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand history" -l trust-owner -d 'Trust a master of this user, by name or number, even if others may put a socket into the directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand history" -l color -d 'When to use colours: auto, always or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand history" -l timeout -d 'Give up on the answer after this many seconds [default: 10, but no limit for upgrades and other rollouts, reload and events]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand history" -l json -d 'Print each reply as JSON, one per line'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand history" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand metrics" -s d -l socket-path -d 'Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]' -r -F -a '(einhyrningsinsctl __complete sockets -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand metrics" -s c -l command-name -d 'Name of the master: short for -d /tmp/einhorn-NAME.sock' -r -f -a '(einhyrningsinsctl __complete names -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand metrics" -l trust-owner -d 'Trust a master of this user, by name or number, even if others may put a socket into the directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand metrics" -l color -d 'When to use colours: auto, always or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand metrics" -l timeout -d 'Give up on the answer after this many seconds [default: 10, but no limit for upgrades and other rollouts, reload and events]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand metrics" -l output -d 'Write to FILE, which is replaced atomically; for the textfile collector of node_exporter, its name ends in .prom' -r -F
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand metrics" -l json -d 'Print each reply as JSON, one per line'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand metrics" -l pss -d 'Also write each worker\'s proportional memory (PSS), which takes the kernel a millisecond or more per worker'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand metrics" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand events" -s d -l socket-path -d 'Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]' -r -F -a '(einhyrningsinsctl __complete sockets -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand events" -s c -l command-name -d 'Name of the master: short for -d /tmp/einhorn-NAME.sock' -r -f -a '(einhyrningsinsctl __complete names -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand events" -l trust-owner -d 'Trust a master of this user, by name or number, even if others may put a socket into the directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand events" -l color -d 'When to use colours: auto, always or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand events" -l timeout -d 'Give up on the answer after this many seconds [default: 10, but no limit for upgrades and other rollouts, reload and events]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand events" -l json -d 'Print each reply as JSON, one per line'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand events" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand state" -s d -l socket-path -d 'Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]' -r -F -a '(einhyrningsinsctl __complete sockets -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand state" -s c -l command-name -d 'Name of the master: short for -d /tmp/einhorn-NAME.sock' -r -f -a '(einhyrningsinsctl __complete names -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand state" -l trust-owner -d 'Trust a master of this user, by name or number, even if others may put a socket into the directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand state" -l color -d 'When to use colours: auto, always or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand state" -l timeout -d 'Give up on the answer after this many seconds [default: 10, but no limit for upgrades and other rollouts, reload and events]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand state" -l json -d 'Print each reply as JSON, one per line'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand state" -s h -l help -d 'Print help'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand louder" -s d -l socket-path -d 'Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]' -r -F -a '(einhyrningsinsctl __complete sockets -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand louder" -s c -l command-name -d 'Name of the master: short for -d /tmp/einhorn-NAME.sock' -r -f -a '(einhyrningsinsctl __complete names -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand louder" -l trust-owner -d 'Trust a master of this user, by name or number, even if others may put a socket into the directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand louder" -l color -d 'When to use colours: auto, always or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand louder" -l timeout -d 'Give up on the answer after this many seconds [default: 10, but no limit for upgrades and other rollouts, reload and events]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand louder" -l json -d 'Print each reply as JSON, one per line'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand louder" -s h -l help -d 'Print help'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand quieter" -s d -l socket-path -d 'Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]' -r -F -a '(einhyrningsinsctl __complete sockets -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand quieter" -s c -l command-name -d 'Name of the master: short for -d /tmp/einhorn-NAME.sock' -r -f -a '(einhyrningsinsctl __complete names -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand quieter" -l trust-owner -d 'Trust a master of this user, by name or number, even if others may put a socket into the directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand quieter" -l color -d 'When to use colours: auto, always or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand quieter" -l timeout -d 'Give up on the answer after this many seconds [default: 10, but no limit for upgrades and other rollouts, reload and events]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand quieter" -l json -d 'Print each reply as JSON, one per line'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand quieter" -s h -l help -d 'Print help'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand reopen" -s d -l socket-path -d 'Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]' -r -F -a '(einhyrningsinsctl __complete sockets -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand reopen" -s c -l command-name -d 'Name of the master: short for -d /tmp/einhorn-NAME.sock' -r -f -a '(einhyrningsinsctl __complete names -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand reopen" -l trust-owner -d 'Trust a master of this user, by name or number, even if others may put a socket into the directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand reopen" -l color -d 'When to use colours: auto, always or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand reopen" -l timeout -d 'Give up on the answer after this many seconds [default: 10, but no limit for upgrades and other rollouts, reload and events]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand reopen" -l json -d 'Print each reply as JSON, one per line'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand reopen" -s h -l help -d 'Print help'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand version" -s d -l socket-path -d 'Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]' -r -F -a '(einhyrningsinsctl __complete sockets -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand version" -s c -l command-name -d 'Name of the master: short for -d /tmp/einhorn-NAME.sock' -r -f -a '(einhyrningsinsctl __complete names -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand version" -l trust-owner -d 'Trust a master of this user, by name or number, even if others may put a socket into the directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand version" -l color -d 'When to use colours: auto, always or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand version" -l timeout -d 'Give up on the answer after this many seconds [default: 10, but no limit for upgrades and other rollouts, reload and events]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand version" -l json -d 'Print each reply as JSON, one per line'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand version" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand help" -s d -l socket-path -d 'Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]' -r -F -a '(einhyrningsinsctl __complete sockets -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand help" -s c -l command-name -d 'Name of the master: short for -d /tmp/einhorn-NAME.sock' -r -f -a '(einhyrningsinsctl __complete names -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand help" -l trust-owner -d 'Trust a master of this user, by name or number, even if others may put a socket into the directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand help" -l color -d 'When to use colours: auto, always or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand help" -l timeout -d 'Give up on the answer after this many seconds [default: 10, but no limit for upgrades and other rollouts, reload and events]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand help" -l json -d 'Print each reply as JSON, one per line'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand help" -l master -d 'Ask the master'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand config" -s d -l socket-path -d 'Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]' -r -F -a '(einhyrningsinsctl __complete sockets -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand config" -s c -l command-name -d 'Name of the master: short for -d /tmp/einhorn-NAME.sock' -r -f -a '(einhyrningsinsctl __complete names -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand config" -l trust-owner -d 'Trust a master of this user, by name or number, even if others may put a socket into the directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand config" -l color -d 'When to use colours: auto, always or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand config" -l timeout -d 'Give up on the answer after this many seconds [default: 10, but no limit for upgrades and other rollouts, reload and events]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand config" -l json -d 'Print each reply as JSON, one per line'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand config" -l show -d 'Show every option, its value, and where that came from'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand config" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand list" -s d -l socket-path -d 'Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]' -r -F -a '(einhyrningsinsctl __complete sockets -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand list" -s c -l command-name -d 'Name of the master: short for -d /tmp/einhorn-NAME.sock' -r -f -a '(einhyrningsinsctl __complete names -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand list" -l trust-owner -d 'Trust a master of this user, by name or number, even if others may put a socket into the directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand list" -l color -d 'When to use colours: auto, always or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand list" -l timeout -d 'Give up on the answer after this many seconds [default: 10, but no limit for upgrades and other rollouts, reload and events]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand list" -l json -d 'Print each reply as JSON, one per line'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand probe" -s d -l socket-path -d 'Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]' -r -F -a '(einhyrningsinsctl __complete sockets -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand probe" -s c -l command-name -d 'Name of the master: short for -d /tmp/einhorn-NAME.sock' -r -f -a '(einhyrningsinsctl __complete names -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand probe" -l trust-owner -d 'Trust a master of this user, by name or number, even if others may put a socket into the directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand probe" -l color -d 'When to use colours: auto, always or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand probe" -l timeout -d 'Give up on the answer after this many seconds [default: 10, but no limit for upgrades and other rollouts, reload and events]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand probe" -l addr -d 'Address of the server as -b takes it, such as 127.0.0.1:8000 or unix:/run/web.sock; or N, for the address in EINHORN_CHECK_ADDR_N' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand probe" -l status -d 'Require this status, rather than any 2xx' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand probe" -l contains -d 'Require this text in the body, of which at most 1 MiB is read' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand probe" -l header -d 'Send this header, such as "Host: example.org" [default host: the address, or localhost for a Unix socket]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand probe" -l times -d 'Require this many good answers in a row, each on a new connection' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand probe" -l json -d 'Print each reply as JSON, one per line'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand probe" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand serve" -s d -l socket-path -d 'Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]' -r -F -a '(einhyrningsinsctl __complete sockets -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand serve" -s c -l command-name -d 'Name of the master: short for -d /tmp/einhorn-NAME.sock' -r -f -a '(einhyrningsinsctl __complete names -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand serve" -l trust-owner -d 'Trust a master of this user, by name or number, even if others may put a socket into the directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand serve" -l color -d 'When to use colours: auto, always or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand serve" -l timeout -d 'Give up on the answer after this many seconds [default: 10, but no limit for upgrades and other rollouts, reload and events]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand serve" -l listen -d 'Where to listen: an IP address and a port, such as 127.0.0.1:9180, unix:PATH, or systemd for the sockets of a socket unit' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand serve" -l host -d 'Also answer requests to this host, besides localhost and loopback addresses; may be repeated' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand serve" -l token-file -d 'Read the token from FILE, which must not be readable by everybody; required if other machines can connect' -r -F
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand serve" -l json -d 'Print each reply as JSON, one per line'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand serve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand top" -s d -l socket-path -d 'Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]' -r -F -a '(einhyrningsinsctl __complete sockets -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand top" -s c -l command-name -d 'Name of the master: short for -d /tmp/einhorn-NAME.sock' -r -f -a '(einhyrningsinsctl __complete names -- (commandline -opc)[2..] 2>/dev/null)'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand top" -l trust-owner -d 'Trust a master of this user, by name or number, even if others may put a socket into the directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand top" -l color -d 'When to use colours: auto, always or never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand top" -l timeout -d 'Give up on the answer after this many seconds [default: 10, but no limit for upgrades and other rollouts, reload and events]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand top" -l count -d 'With --batch: exit after this many samples' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand top" -l interval -d 'How often to look at the master [default: 2, or longer if that would take more than 2 % of a CPU]' -r
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand top" -l json -d 'Print each reply as JSON, one per line'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand top" -l batch -d 'Write plain text each time, for pipes and files; with --json, a line of JSON'
complete -c einhyrningsinsctl -n "__fish_einhyrningsinsctl_using_subcommand top" -s h -l help -d 'Print help (see more with \'--help\')'

_einhyrningsinsctl() {
    local i cur prev opts cmd
    COMPREPLY=()
    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
        cur="$2"
    else
        cur="${COMP_WORDS[COMP_CWORD]}"
    fi
    prev="$3"
    cmd=""
    opts=""

    for i in "${COMP_WORDS[@]:0:COMP_CWORD}"
    do
        case "${cmd},${i}" in
            ",$1")
                cmd="einhyrningsinsctl"
                ;;
            einhyrningsinsctl,config)
                cmd="einhyrningsinsctl__subcmd__config"
                ;;
            einhyrningsinsctl,dec)
                cmd="einhyrningsinsctl__subcmd__dec"
                ;;
            einhyrningsinsctl,die)
                cmd="einhyrningsinsctl__subcmd__die"
                ;;
            einhyrningsinsctl,events)
                cmd="einhyrningsinsctl__subcmd__events"
                ;;
            einhyrningsinsctl,help)
                cmd="einhyrningsinsctl__subcmd__help"
                ;;
            einhyrningsinsctl,history)
                cmd="einhyrningsinsctl__subcmd__history"
                ;;
            einhyrningsinsctl,inc)
                cmd="einhyrningsinsctl__subcmd__inc"
                ;;
            einhyrningsinsctl,list)
                cmd="einhyrningsinsctl__subcmd__list"
                ;;
            einhyrningsinsctl,louder)
                cmd="einhyrningsinsctl__subcmd__louder"
                ;;
            einhyrningsinsctl,metrics)
                cmd="einhyrningsinsctl__subcmd__metrics"
                ;;
            einhyrningsinsctl,probe)
                cmd="einhyrningsinsctl__subcmd__probe"
                ;;
            einhyrningsinsctl,quieter)
                cmd="einhyrningsinsctl__subcmd__quieter"
                ;;
            einhyrningsinsctl,reload)
                cmd="einhyrningsinsctl__subcmd__reload"
                ;;
            einhyrningsinsctl,reopen)
                cmd="einhyrningsinsctl__subcmd__reopen"
                ;;
            einhyrningsinsctl,replace)
                cmd="einhyrningsinsctl__subcmd__replace"
                ;;
            einhyrningsinsctl,respawn)
                cmd="einhyrningsinsctl__subcmd__respawn"
                ;;
            einhyrningsinsctl,rollback)
                cmd="einhyrningsinsctl__subcmd__rollback"
                ;;
            einhyrningsinsctl,serve)
                cmd="einhyrningsinsctl__subcmd__serve"
                ;;
            einhyrningsinsctl,set_workers)
                cmd="einhyrningsinsctl__subcmd__set_workers"
                ;;
            einhyrningsinsctl,signal)
                cmd="einhyrningsinsctl__subcmd__signal"
                ;;
            einhyrningsinsctl,state)
                cmd="einhyrningsinsctl__subcmd__state"
                ;;
            einhyrningsinsctl,status)
                cmd="einhyrningsinsctl__subcmd__status"
                ;;
            einhyrningsinsctl,top)
                cmd="einhyrningsinsctl__subcmd__top"
                ;;
            einhyrningsinsctl,upgrade)
                cmd="einhyrningsinsctl__subcmd__upgrade"
                ;;
            einhyrningsinsctl,upgrade_fleet)
                cmd="einhyrningsinsctl__subcmd__upgrade_fleet"
                ;;
            einhyrningsinsctl,version)
                cmd="einhyrningsinsctl__subcmd__version"
                ;;
            *)
                ;;
        esac
    done

    case "${cmd}" in
        einhyrningsinsctl)
            opts="-d -c -H -e -h -V --socket-path --command-name --trust-owner --host --execute --color --json --timeout --help --version status upgrade upgrade_fleet rollback inc dec set_workers respawn signal replace die reload history metrics events state louder quieter reopen version help config list probe serve top"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 1 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --socket-path)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                -d)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                --command-name)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                -c)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --trust-owner)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --host)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                -H)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --execute)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                -e)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "${cur}"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        einhyrningsinsctl__subcmd__config)
            opts="-d -c -h --socket-path --command-name --trust-owner --color --json --timeout --show --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --socket-path)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                -d)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                --command-name)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                -c)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --trust-owner)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "${cur}"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        einhyrningsinsctl__subcmd__dec)
            opts="-d -c -h --socket-path --command-name --trust-owner --color --json --timeout --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --socket-path)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                -d)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                --command-name)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                -c)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --trust-owner)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "${cur}"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        einhyrningsinsctl__subcmd__die)
            opts="-d -c -h --socket-path --command-name --trust-owner --color --json --timeout --delay --wait --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --socket-path)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                -d)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                --command-name)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                -c)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --trust-owner)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "${cur}"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --delay)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        einhyrningsinsctl__subcmd__events)
            opts="-d -c -h --socket-path --command-name --trust-owner --color --json --timeout --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --socket-path)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                -d)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                --command-name)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                -c)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --trust-owner)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "${cur}"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        einhyrningsinsctl__subcmd__help)
            opts="-d -c -h --socket-path --command-name --trust-owner --color --json --timeout --master --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --socket-path)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                -d)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                --command-name)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                -c)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --trust-owner)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "${cur}"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        einhyrningsinsctl__subcmd__history)
            opts="-d -c -h --socket-path --command-name --trust-owner --color --json --timeout --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --socket-path)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                -d)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                --command-name)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                -c)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --trust-owner)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "${cur}"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        einhyrningsinsctl__subcmd__inc)
            opts="-d -c -h --socket-path --command-name --trust-owner --color --json --timeout --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --socket-path)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                -d)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                --command-name)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                -c)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --trust-owner)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "${cur}"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        einhyrningsinsctl__subcmd__list)
            opts="-d -c -h --socket-path --command-name --trust-owner --color --json --timeout --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --socket-path)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                -d)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                --command-name)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                -c)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --trust-owner)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "${cur}"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        einhyrningsinsctl__subcmd__louder)
            opts="-d -c -h --socket-path --command-name --trust-owner --color --json --timeout --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --socket-path)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                -d)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                --command-name)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                -c)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --trust-owner)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "${cur}"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        einhyrningsinsctl__subcmd__metrics)
            opts="-d -c -h --socket-path --command-name --trust-owner --color --json --timeout --output --pss --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --socket-path)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                -d)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                --command-name)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                -c)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --trust-owner)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "${cur}"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --output)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        einhyrningsinsctl__subcmd__probe)
            opts="-d -c -h --socket-path --command-name --trust-owner --color --json --timeout --addr --status --contains --header --times --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --socket-path)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                -d)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                --command-name)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                -c)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --trust-owner)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "${cur}"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --addr)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --status)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --contains)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --header)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --times)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        einhyrningsinsctl__subcmd__quieter)
            opts="-d -c -h --socket-path --command-name --trust-owner --color --json --timeout --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --socket-path)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                -d)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                --command-name)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                -c)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --trust-owner)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "${cur}"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        einhyrningsinsctl__subcmd__reload)
            opts="-d -c -h --socket-path --command-name --trust-owner --color --json --timeout --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --socket-path)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                -d)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                --command-name)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                -c)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --trust-owner)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "${cur}"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        einhyrningsinsctl__subcmd__reopen)
            opts="-d -c -h --socket-path --command-name --trust-owner --color --json --timeout --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --socket-path)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                -d)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                --command-name)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                -c)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --trust-owner)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "${cur}"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        einhyrningsinsctl__subcmd__replace)
            opts="-d -c -h --socket-path --command-name --trust-owner --color --json --timeout --slot --pid --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --socket-path)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                -d)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                --command-name)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                -c)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --trust-owner)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "${cur}"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --slot)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete slots -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --pid)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete pids -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        einhyrningsinsctl__subcmd__respawn)
            opts="-d -c -h --socket-path --command-name --trust-owner --color --json --timeout --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --socket-path)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                -d)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                --command-name)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                -c)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --trust-owner)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "${cur}"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        einhyrningsinsctl__subcmd__rollback)
            opts="-d -c -h --socket-path --command-name --trust-owner --color --json --timeout --no-wait --quiet --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --socket-path)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                -d)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                --command-name)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                -c)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --trust-owner)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "${cur}"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        einhyrningsinsctl__subcmd__serve)
            opts="-d -c -h --socket-path --command-name --trust-owner --color --json --timeout --listen --host --token-file --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --socket-path)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                -d)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                --command-name)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                -c)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --trust-owner)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "${cur}"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --listen)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --host)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --token-file)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        einhyrningsinsctl__subcmd__set_workers)
            opts="-d -c -h --socket-path --command-name --trust-owner --color --json --timeout --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --socket-path)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                -d)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                --command-name)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                -c)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --trust-owner)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "${cur}"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        einhyrningsinsctl__subcmd__signal)
            opts="-d -c -h --socket-path --command-name --trust-owner --color --json --timeout --slot --pid --draining --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --socket-path)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                -d)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                --command-name)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                -c)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --trust-owner)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "${cur}"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --slot)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete slots -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --pid)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete pids -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        einhyrningsinsctl__subcmd__state)
            opts="-d -c -h --socket-path --command-name --trust-owner --color --json --timeout --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --socket-path)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                -d)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                --command-name)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                -c)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --trust-owner)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "${cur}"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        einhyrningsinsctl__subcmd__status)
            opts="-d -c -h --socket-path --command-name --trust-owner --color --json --timeout --ready --brief --state --watch --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --socket-path)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                -d)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                --command-name)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                -c)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --trust-owner)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "${cur}"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --state)
                    COMPREPLY=($(compgen -W "starting up draining empty" -- "${cur}"))
                    return 0
                    ;;
                --watch)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        einhyrningsinsctl__subcmd__top)
            opts="-d -c -h --socket-path --command-name --trust-owner --color --json --timeout --batch --count --interval --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --socket-path)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                -d)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                --command-name)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                -c)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --trust-owner)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "${cur}"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --count)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --interval)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        einhyrningsinsctl__subcmd__upgrade)
            opts="-d -c -h --socket-path --command-name --trust-owner --color --json --timeout --fleet --canary --soak --wait --keep-master --drained --check --no-check --soak-check --every --soak-failures --label --continue --abort --follow --no-wait --quiet --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --socket-path)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                -d)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                --command-name)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                -c)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --trust-owner)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "${cur}"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --canary)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --soak)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --check)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --soak-check)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --every)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --soak-failures)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --label)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        einhyrningsinsctl__subcmd__upgrade_fleet)
            opts="-d -c -h --socket-path --command-name --trust-owner --color --json --timeout --no-wait --quiet --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --socket-path)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                -d)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                --command-name)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                -c)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --trust-owner)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "${cur}"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        einhyrningsinsctl__subcmd__version)
            opts="-d -c -h --socket-path --command-name --trust-owner --color --json --timeout --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --socket-path)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                -d)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete sockets -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}") $(compgen -f "${cur}"))
                    return 0
                    ;;
                --command-name)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                -c)
                    COMPREPLY=($(compgen -W "$(einhyrningsinsctl __complete names -- "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f 1)" -- "${cur}"))
                    return 0
                    ;;
                --trust-owner)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "${cur}"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
    esac
}

if [[ "${BASH_VERSINFO[0]}" -eq 4 && "${BASH_VERSINFO[1]}" -ge 4 || "${BASH_VERSINFO[0]}" -gt 4 ]]; then
    complete -F _einhyrningsinsctl -o nosort -o bashdefault -o default einhyrningsinsctl
else
    complete -F _einhyrningsinsctl -o bashdefault -o default einhyrningsinsctl
fi

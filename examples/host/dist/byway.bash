# Completion of byway for bash: put it into /usr/share/bash-completion/completions/byway
_byway() {
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]}
    local levels="error warn info debug trace"
    case $previous in
    --config | --key | --socket | --hand-over | check | apply)
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
        ;;
    --log)
        mapfile -t COMPREPLY < <(compgen -W "$levels" -- "$word")
        return
        ;;
    --how)
        mapfile -t COMPREPLY < <(compgen -W "switch reset hand-over hand-over-or-reset" -- "$word")
        return
        ;;
    --protocol)
        mapfile -t COMPREPLY < <(compgen -W "tcp udp icmp" -- "$word")
        return
        ;;
    name)
        mapfile -t COMPREPLY < <(compgen -W "add remove" -- "$word")
        return
        ;;
    --midstream)
        mapfile -t COMPREPLY < <(compgen -W "pass adopt drop" -- "$word")
        return
        ;;
    esac
    local words
    if ((COMP_CWORD == 1)); then
        words="run check ctl monitor lab --help"
    else
        case $command in
        run) words="--config --hand-over --address --alternative --divert --control --key --log --log-json --help" ;;
        lab) words="--shell --help" ;;
        monitor)
            words="check log why show drain only pin restore release move undo --config --page --dry-run --how --log --log-json --help"
            ;;
        ctl)
            words="divert redivert restore list name names connections counters events settings limit timeouts forget apply pcap
                --agent --key --socket --protocol --clients --keep-source --any-port --midstream --resumable --least-loaded --eject --rule --ttl --drain --reset --hand-over --hand-over-or-reset --watch --count
                --seconds --only-if --dry-run --json --help"
            ;;
        *) words="" ;;
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _byway byway

# bash completion of ephemwork. Load it with: source <(ephemwork completions bash)
_ephemwork() {
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} verb='' index
    COMPREPLY=()
    for ((index = 1; index < COMP_CWORD; index++)); do
        case ${COMP_WORDS[index]} in
            -*) ;;
            *) verb=${COMP_WORDS[index]}; break ;;
        esac
    done
    local choices=''
    case $verb in
        '') choices='up down status logs init bastion doctor demo completions bastiond --help --version' ;;
        up)
            case $previous in
                --restart) choices='on-failure never' ;;
                *)
                    choices='--no-run --takeover --detach --restart --json --help'
                    [[ $word == -* ]] || choices=$("${COMP_WORDS[0]}" completions services 2>/dev/null)
                    ;;
            esac
            ;;
        down)
            choices='--json --help'
            [[ $word == -* ]] || choices=$("${COMP_WORDS[0]}" completions services 2>/dev/null)
            ;;
        logs)
            choices='--follow --help'
            [[ $word == -* ]] || choices=$("${COMP_WORDS[0]}" completions services 2>/dev/null)
            ;;
        status) choices='--all --json --help' ;;
        init) choices='--stdout --json --help' ;;
        bastion)
            local sub='' second=$((index + 1)) common='--profile --region --help'
            for ((; second < COMP_CWORD; second++)); do
                case ${COMP_WORDS[second]} in
                    -*) ;;
                    *) sub=${COMP_WORDS[second]}; break ;;
                esac
            done
            case $sub in
                '') choices='init status upgrade destroy policy snippet users audit --help' ;;
                init)
                    choices="--ami-id --subnet-id --alb-security-group-id --bastion-binary-s3-uri --listener-arn --eice $common"
                    choices+=' --live --yes --no-wait --verbose --json'
                    ;;
                status) choices="--json $common" ;;
                upgrade) choices="--ami-id --bastion-binary-s3-uri --live --yes --verbose --json $common" ;;
                destroy) choices="--live --yes --json $common" ;;
                policy) choices="admin developer instance $common" ;;
                users) choices="release --control-socket --json $common" ;;
                audit) choices="--since --user --control-socket --json $common" ;;
                snippet) choices="cdk-python cdk-typescript terraform cloudformation $common" ;;
            esac
            ;;
        doctor) choices='--transport --json --profile --region --help' ;;
        demo) choices='--once --help' ;;
        completions) choices='bash zsh fish --help' ;;
        bastiond)
            case $previous in
                --state | --authorized-keys | --roots | --control-socket | --config)
                    COMPREPLY=($(compgen -f -- "$word"))
                    return
                    ;;
                --log-format) choices='text journal json' ;;
                *)
                    choices='--http --ssh --state --authorize --authorized-keys --authorized-keys-command --user-from-arn'
                    choices+=' --admin --imds --roots --control-socket --lease --hold --settle --slow-body --drain --exit-when-idle'
                    choices+=' --client-requests --trusted-hops --user-sessions --session-lanes --user-rate --session-lifetime'
                    choices+=' --audit-days --audit-bytes --cors-origin --local --staging-url --metrics --rekey-bytes'
                    choices+=' --log-format --config --help --version'
                    ;;
            esac
            ;;
    esac
    COMPREPLY=($(compgen -W "$choices" -- "$word"))
}
complete -F _ephemwork ephemwork

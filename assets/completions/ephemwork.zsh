#compdef ephemwork
# zsh completion of ephemwork. Load it with: source <(ephemwork completions zsh)
# or write it to a file called _ephemwork in a directory of $fpath.

_ephemwork_services() {
    local -a services
    services=(${(f)"$(_call_program services ephemwork completions services 2>/dev/null)"})
    _describe -t services 'service' services
}

_ephemwork() {
    local curcontext=$curcontext state line
    local -A opt_args
    _arguments -C \
        '--help[show the help]' \
        '--version[show the version]' \
        '1:command:->command' \
        '*::argument:->argument'
    case $state in
        command)
            local -a commands
            commands=(
                'up:run services here and send their tagged requests to them'
                'down:end what up started'
                'status:show the sessions of this user'
                'logs:show what a detached service printed'
                'init:write an ephemwork.toml from what this directory has'
                'bastion:make, look at, upgrade and remove the bastion on AWS'
                'doctor:check this machine, the account and the bastion'
                'demo:see it work with a small built-in service'
                'completions:print a shell completion script'
                'bastiond:run the bastion daemon'
            )
            _describe -t commands 'command' commands
            ;;
        argument)
            case $words[1] in
                up)
                    _arguments '--no-run[tunnel to a service that already runs]' \
                        '--takeover[take the tag from another machine of this user]' \
                        '(-d --detach)'{-d,--detach}'[return when ready]' \
                        '--restart[restart a service that ends]:when:(on-failure never)' \
                        '--json[print JSON]' '--help[show the help]' '*:service:_ephemwork_services'
                    ;;
                down) _arguments '--json[print JSON]' '--help[show the help]' '*:service:_ephemwork_services' ;;
                logs) _arguments '(-f --follow)'{-f,--follow}'[show what comes]' '--help[show the help]' '*:service:_ephemwork_services' ;;
                status) _arguments '--all[everyone'\''s sessions]' '--json[print JSON]' '--help[show the help]' ;;
                init) _arguments '--stdout[print instead of writing]' '--json[print JSON]' '--help[show the help]' ;;
                bastion)
                    local -a place live
                    place=('--profile[the AWS profile]:profile:' '--region[the AWS region]:region:' '--help[show the help]')
                    live=('--live[change the account]' '--yes[do not ask]' '--json[print JSON]')
                    case $words[2] in
                        init)
                            _arguments $place $live '--ami-id[the image]:id:' '--subnet-id[where the instance stands]:id:' \
                                '--alb-security-group-id[the group of the load balancer]:id:' \
                                '--bastion-binary-s3-uri[what the instance runs]:uri:' \
                                '--listener-arn[the listener that gets the rules]:arn:' \
                                '--eice[let an EC2 Instance Connect Endpoint in]' \
                                '--no-wait[return once everything is created]' '--verbose[print documents too]'
                            ;;
                        upgrade)
                            _arguments $place $live '--ami-id[the image]:id:' '--verbose[print documents too]' \
                                '--bastion-binary-s3-uri[what the instance runs]:uri:'
                            ;;
                        destroy) _arguments $place $live ;;
                        status) _arguments $place '--json[print JSON]' ;;
                        policy) _arguments $place '*:whose:(admin developer instance)' ;;
                        users)
                            _arguments $place '--control-socket[the socket of the daemon]:file:_files' '--json[print JSON]' \
                                '1:command:(release)' '2:name:'
                            ;;
                        audit)
                            _arguments $place '--since[from when on]:when:' '--user[about this user name]:name:' \
                                '--control-socket[the socket of the daemon]:file:_files' '--json[print JSON]'
                            ;;
                        snippet) _arguments $place '*:language:(cdk-python cdk-typescript terraform cloudformation)' ;;
                        *) _arguments '--help[show the help]' '1:command:(init status upgrade destroy policy snippet users audit)' ;;
                    esac
                    ;;
                doctor)
                    _arguments '--transport[open and measure each way to the bastion]' '--json[print JSON]' '--profile[the AWS profile]:profile:' '--region[the AWS region]:region:' \
                        '--help[show the help]'
                    ;;
                demo) _arguments '--once[end after the two requests]' '--help[show the help]' ;;
                completions) _arguments '--help[show the help]' '1:shell:(bash zsh fish)' ;;
                bastiond)
                    _arguments '--http[where the edge listens]:address:' '--ssh[where SSH listens]:address:' \
                        '--state[the state directory]:directory:_files -/' '--authorized-keys[who may log in]:file:_files' \
                        '--authorize[where keys come from]:source:(keys eic)' '--authorized-keys-command[prints who may log in]:command:' \
                        '--user-from-arn[where an ARN has the name of the user]:pattern:' '*--admin[ARNs of who may free names]:pattern:' \
                        '--imds[the instance metadata service]:url:' '--roots[roots in place of those of the system]:file:_files' \
                        '--control-socket[the admin socket]:file:_files' '--lease[how long a session waits]:seconds:' \
                        '--hold[how long a request waits]:seconds:' '--settle[how long unclaimed tags wait after a start]:seconds:' \
                        '--slow-body[how long a KiB of a body may take]:seconds:' '--drain[how long a drain waits]:seconds:' \
                        '--client-requests[how many requests of one address at once]:number:' '--trusted-hops[how many proxies stand before the edge]:number:' \
                        '--exit-when-idle[end without sessions]:seconds:' '*--cors-origin[a trusted origin]:origin:' \
                        '--local[serve one machine]' '--staging-url[where untagged requests go]:url:' \
                        '--metrics[where the Prometheus page is]:address:' '--rekey-bytes[bytes between key exchanges]:bytes:' \
                        '--user-sessions[sessions of one user]:number:' '--session-lanes[connections of one session]:number:' \
                        '--user-rate[bytes a second of one user]:bytes:' '--session-lifetime[how old a session may become]:seconds:' \
                        '--audit-days[how long the audit is kept]:days:' '--audit-bytes[how much of it]:bytes:' \
                        '--log-format[how a log line looks]:format:(text journal json)' \
                        '--config[read settings from a file]:file:_files' '--help[show the help]' '--version[show the version]'
                    ;;
            esac
            ;;
    esac
}

if [[ ${funcstack[1]} == _ephemwork ]]; then
    _ephemwork "$@"
else
    compdef _ephemwork ephemwork
fi

# fish completion of ephemwork. Load it with: ephemwork completions fish | source
function __ephemwork_services
    ephemwork completions services 2>/dev/null
end

# The verb is the first word: `bastion init` is no `init`.
function __ephemwork_verb
    set -l words (commandline -opc)
    contains -- "$words[2]" $argv
end

complete -c ephemwork -f
complete -c ephemwork -n __fish_use_subcommand -l help -d 'Show the help'
complete -c ephemwork -n __fish_use_subcommand -l version -d 'Show the version'
complete -c ephemwork -n __fish_use_subcommand -a up -d 'Run services here and send their tagged requests to them'
complete -c ephemwork -n __fish_use_subcommand -a down -d 'End what up started'
complete -c ephemwork -n __fish_use_subcommand -a status -d 'Show the sessions of this user'
complete -c ephemwork -n __fish_use_subcommand -a logs -d 'Show what a detached service printed'
complete -c ephemwork -n __fish_use_subcommand -a init -d 'Write an ephemwork.toml from what this directory has'
complete -c ephemwork -n __fish_use_subcommand -a bastion -d 'Make, look at, upgrade and remove the bastion on AWS'
complete -c ephemwork -n __fish_use_subcommand -a doctor -d 'Check this machine, the account and the bastion'
complete -c ephemwork -n __fish_use_subcommand -a demo -d 'See it work with a small built-in service'
complete -c ephemwork -n __fish_use_subcommand -a completions -d 'Print a shell completion script'
complete -c ephemwork -n __fish_use_subcommand -a bastiond -d 'Run the bastion daemon'

complete -c ephemwork -n '__ephemwork_verb up down logs' -a '(__ephemwork_services)' -d service
complete -c ephemwork -n '__ephemwork_verb up' -l no-run -d 'Tunnel to a service that already runs'
complete -c ephemwork -n '__ephemwork_verb up' -l takeover -d 'Take the tag from another machine of this user'
complete -c ephemwork -n '__ephemwork_verb up' -s d -l detach -d 'Return when ready'
complete -c ephemwork -n '__ephemwork_verb up' -l restart -x -a 'on-failure never' -d 'Restart a service that ends'
complete -c ephemwork -n '__ephemwork_verb logs' -s f -l follow -d 'Show what comes'
complete -c ephemwork -n '__ephemwork_verb status' -l all -d 'Everyone\'s sessions'
complete -c ephemwork -n '__ephemwork_verb up down status init' -l json -d 'Print JSON'
complete -c ephemwork -n '__ephemwork_verb init' -l stdout -d 'Print instead of writing'
complete -c ephemwork -n '__ephemwork_verb bastion; and not __fish_seen_subcommand_from init status upgrade destroy policy snippet' -a 'init status upgrade destroy policy snippet'
complete -c ephemwork -n '__ephemwork_verb bastion; and __fish_seen_subcommand_from init upgrade' -l ami-id -x -d 'The image'
complete -c ephemwork -n '__ephemwork_verb bastion; and __fish_seen_subcommand_from init' -l subnet-id -x -d 'Where the instance stands'
complete -c ephemwork -n '__ephemwork_verb bastion; and __fish_seen_subcommand_from init' -l alb-security-group-id -x -d 'The load balancer\'s group'
complete -c ephemwork -n '__ephemwork_verb bastion; and __fish_seen_subcommand_from init upgrade' -l bastion-binary-s3-uri -x -d 'What the instance runs'
complete -c ephemwork -n '__ephemwork_verb bastion; and __fish_seen_subcommand_from init' -l listener-arn -x -d 'The listener that gets the rules'
complete -c ephemwork -n '__ephemwork_verb bastion; and __fish_seen_subcommand_from init' -l eice -d 'Let an EC2 Instance Connect Endpoint in'
complete -c ephemwork -n '__ephemwork_verb bastion; and __fish_seen_subcommand_from init' -l no-wait -d 'Return once everything is created'
complete -c ephemwork -n '__ephemwork_verb bastion; and __fish_seen_subcommand_from init upgrade destroy' -l live -d 'Change the account'
complete -c ephemwork -n '__ephemwork_verb bastion; and __fish_seen_subcommand_from init upgrade destroy' -l yes -d 'Do not ask'
complete -c ephemwork -n '__ephemwork_verb bastion; and __fish_seen_subcommand_from init upgrade' -l verbose -d 'Print documents too'
complete -c ephemwork -n '__ephemwork_verb bastion; and __fish_seen_subcommand_from policy' -a 'admin developer instance'
complete -c ephemwork -n '__ephemwork_verb bastion; and __fish_seen_subcommand_from snippet' -a 'cdk-python cdk-typescript terraform cloudformation'
complete -c ephemwork -n '__ephemwork_verb bastion; and __fish_seen_subcommand_from init status upgrade destroy' -l json -d 'Print JSON'
complete -c ephemwork -n '__ephemwork_verb doctor' -l json -d 'Print JSON'
complete -c ephemwork -n '__ephemwork_verb bastion; and __fish_seen_subcommand_from init status upgrade destroy policy snippet' -l profile -x -d 'The AWS profile'
complete -c ephemwork -n '__ephemwork_verb bastion; and __fish_seen_subcommand_from init status upgrade destroy policy snippet' -l region -x -d 'The AWS region'
complete -c ephemwork -n '__ephemwork_verb doctor' -l profile -x -d 'The AWS profile'
complete -c ephemwork -n '__ephemwork_verb doctor' -l region -x -d 'The AWS region'
complete -c ephemwork -n '__ephemwork_verb demo' -l once -d 'End after the two requests'
complete -c ephemwork -n '__ephemwork_verb completions' -a 'bash zsh fish'
complete -c ephemwork -n '__ephemwork_verb bastiond' -l http -x -d 'Where the edge listens'
complete -c ephemwork -n '__ephemwork_verb bastiond' -l ssh -x -d 'Where SSH listens'
complete -c ephemwork -n '__ephemwork_verb bastiond' -l state -r -F -d 'The state directory'
complete -c ephemwork -n '__ephemwork_verb bastiond' -l authorized-keys -r -F -d 'Who may log in'
complete -c ephemwork -n '__ephemwork_verb bastiond' -l control-socket -r -F -d 'The admin socket'
complete -c ephemwork -n '__ephemwork_verb bastiond' -l lease -x -d 'How long a session waits'
complete -c ephemwork -n '__ephemwork_verb bastiond' -l hold -x -d 'How long a request waits'
complete -c ephemwork -n '__ephemwork_verb bastiond' -l settle -x -d 'How long unclaimed tags wait after a start'
complete -c ephemwork -n '__ephemwork_verb bastiond' -l drain -x -d 'How long a drain waits'
complete -c ephemwork -n '__ephemwork_verb bastiond' -l exit-when-idle -x -d 'End without sessions'
complete -c ephemwork -n '__ephemwork_verb bastiond' -l cors-origin -x -d 'A trusted origin'
complete -c ephemwork -n '__ephemwork_verb bastiond' -l local -d 'Serve one machine'
complete -c ephemwork -n '__ephemwork_verb bastiond' -l staging-url -x -d 'Where untagged requests go'
complete -c ephemwork -n '__ephemwork_verb bastiond' -l metrics -x -d 'Where the Prometheus page is'
complete -c ephemwork -n '__ephemwork_verb bastiond' -l rekey-bytes -x -d 'Bytes between key exchanges'
complete -c ephemwork -n '__ephemwork_verb bastiond' -l log-format -x -a 'text journal json' -d 'How a log line looks'
complete -c ephemwork -n '__ephemwork_verb bastiond' -l version -d 'Show the version'
complete -c ephemwork -n '__ephemwork_verb bastiond' -l config -r -F -d 'Read settings from a file'
complete -c ephemwork -n '__ephemwork_verb up down status logs init bastion doctor demo completions bastiond' -l help -d 'Show the help'

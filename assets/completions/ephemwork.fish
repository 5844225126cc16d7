# fish completion of ephemwork. Load it with: ephemwork completions fish | source
function __ephemwork_services
    ephemwork completions services 2>/dev/null
end

complete -c ephemwork -f
complete -c ephemwork -n __fish_use_subcommand -l help -d 'Show the help'
complete -c ephemwork -n __fish_use_subcommand -l version -d 'Show the version'
complete -c ephemwork -n __fish_use_subcommand -a up -d 'Run services here and send their tagged requests to them'
complete -c ephemwork -n __fish_use_subcommand -a down -d 'End what up started'
complete -c ephemwork -n __fish_use_subcommand -a status -d 'Show the sessions of this user'
complete -c ephemwork -n __fish_use_subcommand -a logs -d 'Show what a detached service printed'
complete -c ephemwork -n __fish_use_subcommand -a init -d 'Write an ephemwork.toml from what this directory has'
complete -c ephemwork -n __fish_use_subcommand -a demo -d 'See it work with a small built-in service'
complete -c ephemwork -n __fish_use_subcommand -a completions -d 'Print a shell completion script'
complete -c ephemwork -n __fish_use_subcommand -a bastiond -d 'Run the bastion daemon'

complete -c ephemwork -n '__fish_seen_subcommand_from up down logs' -a '(__ephemwork_services)' -d service
complete -c ephemwork -n '__fish_seen_subcommand_from up' -l no-run -d 'Tunnel to a service that already runs'
complete -c ephemwork -n '__fish_seen_subcommand_from up' -l takeover -d 'Take the tag from another machine of this user'
complete -c ephemwork -n '__fish_seen_subcommand_from up' -s d -l detach -d 'Return when ready'
complete -c ephemwork -n '__fish_seen_subcommand_from up' -l restart -x -a 'on-failure never' -d 'Restart a service that ends'
complete -c ephemwork -n '__fish_seen_subcommand_from logs' -s f -l follow -d 'Show what comes'
complete -c ephemwork -n '__fish_seen_subcommand_from status' -l all -d 'Everyone\'s sessions'
complete -c ephemwork -n '__fish_seen_subcommand_from up down status init' -l json -d 'Print JSON'
complete -c ephemwork -n '__fish_seen_subcommand_from init' -l stdout -d 'Print instead of writing'
complete -c ephemwork -n '__fish_seen_subcommand_from demo' -l once -d 'End after the two requests'
complete -c ephemwork -n '__fish_seen_subcommand_from completions' -a 'bash zsh fish'
complete -c ephemwork -n '__fish_seen_subcommand_from bastiond' -l http -x -d 'Where the edge listens'
complete -c ephemwork -n '__fish_seen_subcommand_from bastiond' -l ssh -x -d 'Where SSH listens'
complete -c ephemwork -n '__fish_seen_subcommand_from bastiond' -l state -r -F -d 'The state directory'
complete -c ephemwork -n '__fish_seen_subcommand_from bastiond' -l authorized-keys -r -F -d 'Who may log in'
complete -c ephemwork -n '__fish_seen_subcommand_from bastiond' -l control-socket -r -F -d 'The admin socket'
complete -c ephemwork -n '__fish_seen_subcommand_from bastiond' -l lease -x -d 'How long a session waits'
complete -c ephemwork -n '__fish_seen_subcommand_from bastiond' -l hold -x -d 'How long a request waits'
complete -c ephemwork -n '__fish_seen_subcommand_from bastiond' -l exit-when-idle -x -d 'End without sessions'
complete -c ephemwork -n '__fish_seen_subcommand_from bastiond' -l config -r -F -d 'Read settings from a file'
complete -c ephemwork -n '__fish_seen_subcommand_from up down status logs init demo completions bastiond' -l help -d 'Show the help'

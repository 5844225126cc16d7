# Types $LINE and a tab into a zsh of its own behind a pseudo terminal, and prints "found" once $EXPECTED is seen there.
zmodload zsh/zpty zsh/zselect

# Reads until $1 was printed, at most 20 s.
wait_for() {
    local chunk
    local -i tries
    seen=''
    for ((tries = 0; tries < 400; tries++)); do
        while zpty -r -t shell chunk; do seen+=$chunk; done
        [[ $seen == *"$1"* ]] && return 0
        zselect -t 5
    done
    print -r -- "not seen: $1 in ${(V)seen}"
    return 1
}

zpty -b shell zsh -f -i
zpty -w shell 'autoload -Uz compinit; compinit -u -D; source $COMPLETION; print LOAD""ED'
wait_for LOADED || exit
zpty -w -n shell "$LINE"$'\t'
wait_for "$EXPECTED" && print found
zpty -d shell

# Completions of trueup for bash: `source <(trueup completions bash)`. Every candidate is a plain word.

_trueup() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        COMPREPLY+=("$line")
    done < <(command trueup complete bash "$COMP_CWORD" -- "${COMP_WORDS[@]}" 2>/dev/null)
    # `shop=` goes on with a sha.
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]]; then
        compopt -o nospace 2>/dev/null
    fi
}

# Without a candidate bash completes paths itself, and quotes them.
complete -o bashdefault -o default -F _trueup trueup

#compdef trueup
# Completions of trueup for zsh: `source <(trueup completions zsh)`. Every candidate is a plain word.

_trueup() {
    local -a candidates open
    candidates=("${(@f)$(command trueup complete zsh $((CURRENT - 1)) -- "${(@)words}" 2>/dev/null)}")
    candidates=(${candidates:#})
    if (( ${#candidates} == 0 )); then
        _files
        return
    fi
    # `shop=` goes on with a sha.
    open=(${(M)candidates:#*=})
    candidates=(${candidates:#*=})
    (( ${#open} )) && compadd -S '' -a open
    (( ${#candidates} )) && compadd -a candidates
}

if [ "$funcstack[1]" = "_trueup" ]; then
    _trueup "$@"
else
    compdef _trueup trueup
fi

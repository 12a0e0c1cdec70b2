# Completions of trueup for fish: `trueup completions fish | source`. Every candidate is a plain word.

function __trueup_complete
    set --local words (commandline --current-process --tokenize --cut-at-cursor)
    set --local current (commandline --current-token --cut-at-cursor)
    command trueup complete fish (count $words) -- $words "$current" 2>/dev/null
end

complete --command trueup --arguments '(__trueup_complete)'

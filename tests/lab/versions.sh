# shellcheck shell=bash
# Versions of rack-app that are bad, each in another way: source this after lib.sh.
#
#   bad_at_once     the kinds that nobody meets: a command of the build, or the preflight, fails
#   bad_later       those that only time shows
#   pass_code KIND  the exit code of the pass that meets it; words[KIND]: what the report says
#   commit NAME KIND    make the version NAME from the last good one, bad in this way or `good`; its sha is in ${sha[NAME]}
#   give_versions   put all of them on the git server
#   commit_many COUNT   versions 1 to COUNT, one in ten bad, by turns as the list `bad` says
#   deploy_many COUNT   deploy each of them on the host web under load, and print a table; bad ones are refused or taken back
bad_at_once=(crash late killed error word hang redirect migration assets memory port link)
bad_later=(dies fades)
declare -A words
pass_code() {
  case $1 in
    killed|migration|assets) echo 1;;
    *) echo 4;;
  esac
}
at_boot() { sed -i "/^VERSION = /i $1" config.ru; }
health() { sed -i "s|when \"/health\" then .*|when \"/health\" then $1|" config.ru; }
make_good() { :; }
make_crash() { at_boot 'raise "this version does not boot"'; }
words[crash]="before it answered"
make_late() { at_boot 'sleep 2; exit! 3'; }
words[late]="exited with 3"
make_killed() { at_boot 'Process.kill(:KILL, Process.pid)'; }
words[killed]="was killed by signal 9"
make_error() { health '[500, TEXT, ["sick"]]'; }
words[error]="answered 500 instead of 200"
make_word() { health '[200, TEXT, ["maintenance"]]'; }
words[word]="answered without"
make_hang() { health '(sleep 60)'; }
words[hang]="not healthy within 10 s"
make_redirect() { health '[301, { "location" => "/elsewhere" }, []]'; }
words[redirect]="answered 301 (to /elsewhere)"
make_migration() { touch bad-migration; }
words[migration]="step \`migrate\`"
make_assets() { echo 'exit 1' >bin/build; }
words[assets]="step \`assets\`"
make_memory() { at_boot 'Process.setrlimit(:AS, 512 << 20); "x" * (1 << 30)'; }
words[memory]="failed to allocate memory"
make_port() { at_boot 'require "socket"; TCPServer.new("127.0.0.1", 3000)'; }     # the running release's
words[port]="Address already in use"
make_link() { ln -s ../../shared/missing data; at_boot 'File.read("data/catalog")'; }
words[link]="No such file or directory"
make_dies() { at_boot 'Thread.new { sleep 3; Process.kill(:KILL, Process.pid) }'; }
words[dies]="its services crashed"
make_fades() { at_boot 'BOOT = Time.now'; health '(Time.now - BOOT > 60 ? [500, TEXT, ["faded"]] : [200, TEXT, ["ok"]])'; }
words[fades]="answered 500 instead of 200"

# The repository of give_git_server, as a work tree.
clone_versions() {
  git clone -q "$SCRATCH/shop.git" "$SCRATCH/clone"
  git -C "$SCRATCH/clone" config user.name Ana
  git -C "$SCRATCH/clone" config user.email ana@shop.invalid
}
commit() {
  git -C "$SCRATCH/clone" checkout -qf main
  (cd "$SCRATCH/clone" && "make_$2")
  echo "$1" >"$SCRATCH/clone/VERSION"
  git -C "$SCRATCH/clone" add -A
  git -C "$SCRATCH/clone" commit -qm "$1"
  # shellcheck disable=SC2154  # give_git_server declares it
  sha[$1]=$(git -C "$SCRATCH/clone" rev-parse HEAD)
  git -C "$SCRATCH/clone" branch "version-$1"
  git -C "$SCRATCH/clone" reset -q --hard HEAD~
}
give_versions() {
  on git rm -rf /srv/git/shop.git
  git clone -q --bare "$SCRATCH/clone" "$SCRATCH/bare.git"
  lab cp "$SCRATCH/bare.git" git:/srv/git/shop.git
  on git chown -R git: /srv/git/shop.git
}
# give_versioned_server HOST [LINE…]: an app server for them; the lines are settings of the app
give_versioned_server() {
  give_server "$1" app < <(cat <<END
packages: [nginx-light, ruby, bundler]
apps:
  shop:
    repo: "git@$git_address:shop.git"
    port: 3000
    steps: [{name: install, run: bundle check}]
    assets: {run: bin/build}
    secrets: {SECRET: hunter2-hunter2}
    health: {url: "http://127.0.0.1:3000/health", body: ok, times: 1, timeout: 3s}
END
  [[ $* == *migrate:* ]] || echo '    migrate: {run: "[ ! -e bad-migration ]", when_changed: null}'
  printf '    %s\n' "${@:2}")
}

# shellcheck disable=SC2154  # `bad` is the scenario's
kind_of() { [ $(($1 % 10)) = 0 ] && echo "${bad[$1 / 10 % ${#bad[@]}]}" || echo good; }
commit_many() { local n; for ((n = 1; n <= $1; n++)); do commit "$n" "$(kind_of "$n")"; done; }

now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN {printf "%.1f", b - a}'; }
rows() { printf '%-4s %-10s %-4s %6s  %-8s %s\n' "$@"; }
deploy_many() {
  local n kind started failed exit passes good table
  good=$(page_line web version) table=$(rows number kind exit 'time s' failed visitors)
  under_load web
  for ((n = 1; n <= $1; n++)); do
    kind=$(kind_of "$n") started=$(now) failed=0
    [[ " ${bad_later[*]} " != *" $kind "* ]] || { end_load; under_load web; }
    publish "${sha[$n]}" >"$SCRATCH/publish" 2>&1 || fail "version $n is published" "$(cat "$SCRATCH/publish")"
    exit=0
    output=$(on web trueup converge 2>&1) || exit=$?
    case $kind in
      good) same "version $n is deployed" 0 "$exit"; good=$n;;
      dies|fades)
        same "version $n, which will be bad, is deployed ($kind)" 0 "$exit"
        # As the timer does.
        for ((passes = 0; passes < 60 && exit != 4; passes++)); do
          sleep 3
          exit=0
          output=$(on web trueup converge 2>&1) || exit=$?
          [ $exit = 0 ] || [ $exit = 4 ] || printf 'meanwhile: %s\n' "$output"
        done
        same "it is taken back" 4 "$exit"
        has "with the reason" "${words[$kind]}" "$output"
        touch "$SCRATCH/stop"; wait "${visitors[@]}"
        failed=$(sed -n 's/.* failed \([0-9]*\) .*/\1/p' "$SCRATCH/load")
        under_load web;;
      *)
        same "version $n is refused ($kind)" "$(pass_code "$kind")" "$exit"
        has "with the reason" "${words[$kind]}" "$output";;
    esac
    page_has web "version $good" || fail "visitors get version $good" "$(page web)"
    table+=$'\n'$(rows "$n" "$kind" "$exit" "$(since "$started")" "$failed" "version $good")
  done
  end_load
  printf '%s\n' "$table" | sed 's/^/  /'
  check "five good releases are kept, and at most one that failed and one that was bad" \
    [ "$(on web ls /srv/www/shop/releases | wc -l)" -le 7 ]
}

#!/bin/bash
# 67-rollout-killed: trueup is killed at its requests and its journal writes in a rollout; the next pass goes on with the same slot
# timeout: 400
# long timeout: 2000
# packages: strace
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=tests/lab/versions.sh
. "$(dirname "$0")/../versions.sh"
# shellcheck source=tests/lab/fleet.sh
. "$(dirname "$0")/../fleet.sh"

# The calls by which a pass asks the store and writes down what it is about to do.
calls=(sendto writev renameat)
points=18
[ -z "${LONG:-}" ] || points=160
hosts=(app1 app2)

# shellcheck disable=SC2119  # the app of this repository
give_git_server
clone_versions
for ((n = 0; n <= points; n++)); do commit "$n" good; done
give_versions
# shellcheck disable=SC2016  # the host expands it
give_fleet 'migrate: {run: "cat REVISION >>/srv/www/shop/shared/migrations", when_changed: null}'

traced() { on app1 strace -f -qq -o /run/trace -e trace="$(IFS=,; echo "${calls[*]}")" "$@"; }
runs_of() { for each in "${hosts[@]}"; do on "$each" grep -sc "$1" /srv/www/shop/shared/migrations ||:; done | awk '{sum += $1} END {print sum}'; }

check "v1 is published" publish "${sha[v1]}" --create
check "two hosts converge" passes 0 0
check "a version is published" publish "${sha[0]}"
check "a pass is measured" traced trueup converge
total=0
declare -A count
for call in "${calls[@]}"; do
  count[$call]=$(on app1 grep -c " $call(" /run/trace ||:)
  total=$((total + count[$call]))
done
check "the other host follows" passes 0 0

# As many points as there is time for, evenly over all calls.
at=() every=$((total / points + 1))
for call in "${calls[@]}"; do
  for ((n = every / 2 + 1; n <= count[$call]; n += every)); do at+=("$call $n"); done
done
killed=0 again=0
for ((n = 1; n <= points && n <= ${#at[@]}; n++)); do
  read -r call number <<<"${at[n - 1]}"
  publish "${sha[$n]}" >"$SCRATCH/publish" 2>&1 || fail "version $n is published" "$(cat "$SCRATCH/publish")"
  result=0
  traced -e inject="$call:signal=SIGKILL:when=$number" trueup converge >"$SCRATCH/killed" 2>&1 || result=$?
  [ $result = 0 ] || killed=$((killed + 1))
  passes 0 0 >"$SCRATCH/end" 2>&1 || fail "killed at $call $number of ${count[$call]}, the next passes converge" "$(cat "$SCRATCH/end")"
  for each in "${hosts[@]}"; do
    [ "$(at "$each")" = "${sha[$n]}" ] || fail "killed at $call $number, $each takes the version" "$(at "$each")"
  done
  document=$(rollout status --output json) || fail "killed at $call $number, the rollout is done" "$(rollout status)"
  rest=$(json '(d["state"], d["holders"], d["failures"], d["claim"])' <<<"$document")
  [ "$rest" = "('done', [], [], None)" ] || fail "killed at $call $number, nothing is left" "$rest"
  case $(runs_of "${sha[$n]}") in
    1) ;;
    # Killed between the end of the migration and its record.
    2) again=$((again + 1));;
    *) fail "killed at $call $number, it migrates once" "$(runs_of "${sha[$n]}")";;
  esac
done
printf '  killed at %s of %s points of %s calls; the migration ran again %s times\n' "$killed" "${#at[@]}" "$total" "$again"
check "most points were hit" [ "$killed" -ge $((${#at[@]} * 2 / 3)) ]
check "hardly any migration ran twice" [ "$again" -le $((1 + points / 10)) ]

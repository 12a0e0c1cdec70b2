#!/bin/bash
# 69-rollout-objects: objects of a rollout that no host can use are named and mended; a host that may write none of them goes last
# timeout: 240
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=tests/lab/versions.sh
. "$(dirname "$0")/../versions.sh"
# shellcheck source=tests/lab/fleet.sh
. "$(dirname "$0")/../fleet.sh"

# shellcheck disable=SC2119  # the app of this repository
give_git_server
clone_versions
for version in {1..6}; do commit "$version" good; done
give_versions
# shellcheck disable=SC2119  # no settings of its own
give_fleet
# The bucket's policy lets the third host write its record alone.
straight=$endpoint
give_s3_trouble
trouble read-only rollouts slots quarantine once at
on app3 sed -i "s#$straight#$endpoint#" /etc/trueup/node.yml
endpoint=$straight
register=rollouts/production/shop.json

check "v1 is published" publish "${sha[v1]}" --create
begin app1 app2; ends "two hosts converge" 0 0
code "the rollout is done without the one that may not write" 0 rollout status --wait --timeout 20s
begin app3; ends "that one follows" 0
begin app3; ends "and is right" 0
set_flag hold app1
check "a version is published" publish "${sha[1]}"
begin app3; ends "it does not go first" 3
has "it says why" "this host may take no part in the rollout" "$(cat "$SCRATCH/app3.pass")"
has "and names what it may not write" "refused \`slots/production/" "$(cat "$SCRATCH/app3.pass")"
has "and when it goes" "it goes once all others have the sha" "$(cat "$SCRATCH/app3.pass")"
begin app1 app2; ends "the others take it" 0 0
begin app3; ends "then it does" 0
same "it has it" "${sha[1]}" "$(at app3)"
code "the rollout is done" 0 rollout status --wait --timeout 20s

#### Objects that no trueup wrote
trouble
s3 GET $register >"$SCRATCH/sound"
# refused VERSION OBJECT WORDS REMEDY: with this object all hosts wait for its version, name it, why, and what to do
refused() {
  check "version $1 is published" publish "${sha[$1]}"
  begin "${hosts[@]}"; ends "all hosts wait" 3 3 3
  for each in "${hosts[@]}"; do
    has "$each names the object" "$2 cannot be used: $3" "$(cat "$SCRATCH/$each.pass")"
    has "and what to do" "$4" "$(cat "$SCRATCH/$each.pass")"
    same "it stays at the version before" "${sha[$(($1 - 1))]}" "$(at "$each")"
  done
}
mended() {
  check "three hosts converge" passes 0 0 0
  check "to version $1, and the rollout is done" finished "${sha[$1]}" "${hosts[@]}"
}
reset="trueup rollout reset ENV APP --reason TEXT"

echo '{"version": 1, "app": ' >"$SCRATCH/object"
s3 PUT $register "$SCRATCH/object"
refused 2 $register "it is damaged" "$reset"
code "an operator sees it as well" 78 rollout status
has "with the remedy" "$reset" "$output"
check "a reset mends it" rollout reset --reason "somebody's script wrote there"
mended 2
has "and is in the history" "somebody's script wrote there" "$(rollout status)"

{ head -c 10M /dev/zero | tr '\0' ' '; cat "$SCRATCH/sound"; } >"$SCRATCH/object"
s3 PUT $register "$SCRATCH/object"
refused 3 $register "it has" "$reset"
check "a reset mends it" rollout reset --reason "somebody's script wrote there"
mended 3

json '__import__("json").dumps({**d, "app": "blog"})' <"$SCRATCH/sound" >"$SCRATCH/object"
s3 PUT $register "$SCRATCH/object"
refused 4 $register "it claims to be of \`blog\`" "$reset"
check "a reset mends it" rollout reset --reason "somebody's script wrote there"
mended 4

s3 GET $register >"$SCRATCH/sound"
json '__import__("json").dumps({**d, "version": 2})' <"$SCRATCH/sound" >"$SCRATCH/object"
s3 PUT $register "$SCRATCH/object"
refused 5 $register "it has version 2, and this trueup reads version 1" "upgrade trueup here"
code "what a newer trueup wrote is not thrown away" 78 rollout reset --reason "somebody's script wrote there"
s3 PUT $register "$SCRATCH/sound"
mended 5

echo '[]' >"$SCRATCH/object"
s3 PUT slots/production/shop/0.json "$SCRATCH/object"
refused 6 slots/production/shop/0.json "it is damaged" "removed with an S3 client"
s3 DELETE slots/production/shop/0.json
mended 6

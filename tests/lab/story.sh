# shellcheck shell=bash
# A story that is told by what commands print: source this after fleet.sh and webhook.sh.
#
#   give_signers          keys of CI for staging, of CI's button for production, and of the operator Ana; $SCRATCH/signers names them
#   give_checkout         CI's clone of the repository; fetch_checkout updates it
#   story_commit NAME SUBJECT KIND    a commit on main of the git server, bad in this way (versions.sh) or `good`; ${sha[NAME]}
#   title WORDS           a section of the story
#   prose                 a paragraph, from standard input
#   show CODE COMMAND     what Ana types and sees; it ends with this exit code
#   ci CODE JOB           the lines of a job of packaging/ci/gitlab-ci.yml, run as GitLab does: until one fails, with this code
#   message TRANSITION    the text of the message that the webhook got
#   tell_story            compares the story with docs/story.md; with UPDATE_DOCS=1 writes it
story=$SCRATCH/story
: >"$story"
give_signers() {
  local name
  for name in staging production ana; do ssh-keygen -q -t ed25519 -N '' -C "$name" -f "$SCRATCH/$name.key"; done
  {
    echo "ci@acme.example namespaces=\"trueup@staging\" $(cut -d' ' -f1,2 "$SCRATCH/staging.key.pub")"
    echo "button@acme.example namespaces=\"trueup@production\" $(cut -d' ' -f1,2 "$SCRATCH/production.key.pub")"
    echo "ana@acme.example namespaces=\"trueup@*\" $(cut -d' ' -f1,2 "$SCRATCH/ana.key.pub")"
  } >"$SCRATCH/signers"
}
has_message() { [ "$(messages "$1")" = 1 ]; }

# The environment of a person at this machine, and of CI.
git_ssh="ssh -i $SCRATCH/deploy.key -o StrictHostKeyChecking=no -o UserKnownHostsFile=$SCRATCH/known_hosts -o LogLevel=ERROR"
with_store() {
  # shellcheck disable=SC2154  # give_s3 sets them
  env -i PATH="$SCRATCH/bin:$PATH" HOME="$SCRATCH/home" LANG=C.UTF-8 GIT_SSH_COMMAND="$git_ssh" \
    AWS_ACCESS_KEY_ID="$AWS_ACCESS_KEY_ID" AWS_SECRET_ACCESS_KEY="$AWS_SECRET_ACCESS_KEY" AWS_REGION="$AWS_REGION" \
    TRUEUP_STORE="s3://$bucket" TRUEUP_ENDPOINT="$endpoint" TRUEUP_SIGNERS="$SCRATCH/signers" "$@"
}
as_operator() { with_store TRUEUP_SIGN="$SCRATCH/ana.key" TRUEUP_BY=ana "$@"; }
as_ci() {
  (cd "$SCRATCH/checkout" && with_store CI=true GITLAB_CI=true CI_COMMIT_REF_NAME=main GITLAB_USER_LOGIN=ben \
    CI_COMMIT_SHA="$(git rev-parse HEAD)" TRUEUP_SIGN="$SCRATCH/$1.key" bash -eo pipefail -c "$2")
}
give_checkout() {
  mkdir "$SCRATCH/home" "$SCRATCH/bin"
  ln -s "$TRUEUP" "$SCRATCH/bin/trueup"
  (umask 077; on git cat /root/deploy_key >"$SCRATCH/deploy.key")
  # shellcheck disable=SC2154  # give_git_server sets it
  GIT_SSH_COMMAND=$git_ssh git clone -q "git@$git_address:shop.git" "$SCRATCH/checkout"
}
story_commit() {
  (cd "$SCRATCH/clone" && "make_$3")
  echo "$1" >"$SCRATCH/clone/VERSION"
  git -C "$SCRATCH/clone" add -A
  git -C "$SCRATCH/clone" commit -qm "$2"
  GIT_SSH_COMMAND=$git_ssh git -C "$SCRATCH/clone" push -q "git@$git_address:shop.git" HEAD:main
  sha[$1]=$(git -C "$SCRATCH/clone" rev-parse HEAD)
  GIT_SSH_COMMAND=$git_ssh git -C "$SCRATCH/checkout" fetch -q origin
  git -C "$SCRATCH/checkout" checkout -q origin/main
}

title() { printf '\n## %s\n' "$*" >>"$story"; }
prose() { { echo; cat; } >>"$story"; }
# tell WORDS COMMAND…: runs it, and tells what it printed; its exit code is in $told_code
tell() {
  told_code=0
  # A second of its own, by which story-text knows what happened in it.
  while [ "$(date +%s)" = "${told_at:-}" ]; do sleep .1; done
  { printf '\001%s\n' "$(date +%s)"; printf '\n```console\n$ %s\n' "$1"; } >>"$story"
  "${@:2}" >"$SCRATCH/shown" 2>&1 </dev/null || told_code=$?
  told_at=$(date +%s)
  cat "$SCRATCH/shown" >>"$story"
  [ "$told_code" = 0 ] || printf '(exit code %s)\n' $told_code >>"$story"
  printf '```\n' >>"$story"
}
show() {
  tell "$2" as_operator bash -c "$2"
  [ "$told_code" = "$1" ] || fail "$2" "$(cat "$SCRATCH/shown")" "(exit code $told_code, expected $1)"
  _passed "$2"
}
ci() {
  local lines line
  # shellcheck disable=SC2154  # lib.sh sets it
  mapfile -t lines < <(awk -v job="$2:" '/^[^ ]/ {mine = $0 == job; script = 0} mine && /^  [a-z]/ {script = $1 == "script:"} mine && script && sub(/^    - /, "")' \
    "$tests/../packaging/ci/gitlab-ci.yml")
  [ ${#lines[@]} -gt 0 ] || fail "the sample has a job $2"
  for line in "${lines[@]}"; do
    tell "$line" as_ci "$2" "$line"
    [ "$told_code" = 0 ] || break
  done
  [ "$told_code" = "$1" ] || fail "CI's job $2" "$(cat "$SCRATCH/shown")" "(exit code $told_code, expected $1)"
  _passed "CI's job $2 ends with $1"
}
message() {
  { printf '\n```text\n'; grep "\"transition\":\"$1\"" "$SCRATCH/hook/requests" | tail -n 1 | json 'd["text"].strip()'; printf '```\n'; } >>"$story"
}
tell_story() {
  local name pairs=()
  for name in "${!sha[@]}"; do pairs+=("$name=${sha[$name]}"); done
  with_store trueup history production -n 100 --json >"$SCRATCH/history"
  "$tests/lab/story-text" write "$story" "$SCRATCH/history" "$bucket" "git@$git_address:shop.git" "${pairs[@]}" >"$SCRATCH/story.md" ||
    fail "the story is written"
  if [ -n "${UPDATE_DOCS:-}" ] && ! "$tests/lab/story-text" compare "$tests/../docs/story.md" "$SCRATCH/story.md"; then
    cp "$SCRATCH/story.md" "$tests/../docs/story.md"
  fi
  check "docs/story.md is what happened (UPDATE_DOCS=1 writes it)" "$tests/lab/story-text" compare "$tests/../docs/story.md" "$SCRATCH/story.md"
}

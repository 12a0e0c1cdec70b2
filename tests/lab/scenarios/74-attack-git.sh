#!/bin/bash
# 74-attack-git: a hostile git server, and users who may push or open pull requests, against a host that deploys from it
# timeout: 420
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server
give_s3
give_app_server web "git@$git_address:shop.git"
check "v1 is published" publish "${sha[v1]}" --create
check "the host converges" on web trueup converge
wait_for 10 "a visitor gets v1" page_has web "version v1"

git clone -q "$SCRATCH/shop.git" "$SCRATCH/clone"
in_clone() { git -C "$SCRATCH/clone" -c user.name=Mallory -c user.email=m@shop.invalid "$@"; }
# The git server has what was pushed.
serve() {
  on git rm -rf /srv/git/shop.git
  lab cp "$SCRATCH/shop.git" git:/srv/git/shop.git
  on git chown -R git: /srv/git/shop.git
}
# push REF [SUBJECT]: what is in the clone, as one more commit on that ref alone; its sha is $pushed.
push() {
  in_clone add -A
  printf '%s\n' "${2:-For $1}" | in_clone commit -qF -
  pushed=$(in_clone rev-parse HEAD)
  in_clone push -qf origin "HEAD:$1"
  serve
  in_clone reset -q --hard "${sha[v1]}"
}
# refused WORDS...: a pass fails, says this, and visitors get v1.
refused() {
  code "a pass fails" 1 on web trueup converge --force
  local words
  for words; do has "it says \"$words\"" "$words" "$output"; done
  has "visitors get v1" "version v1" "$(page web)"
}
# The most memory that a pass takes, in KiB.
pass_takes() {
  on web sh -c 'trueup converge --force >/run/output 2>&1 & pid=$!; peak=0
    while now=$(awk "/VmHWM/ {print \$2}" /proc/$pid/status 2>/dev/null) && [ -n "$now" ]; do peak=$now; sleep .05; done
    wait $pid; echo $peak'
}
# bounded MIB: such a pass takes no more, and says why it failed.
bounded() {
  local peak; peak=$(pass_takes)
  echo "  the pass took $((peak / 1024)) MiB"
  [ "$peak" -gt 0 ] && [ "$peak" -lt $(($1 * 1024)) ] || fail "a pass takes less than $1 MiB" "$peak KiB" "$(on web cat /run/output)"
  _passed "a pass takes less than $1 MiB"
  has "the report names the reason" "$2" "$(on web cat /run/output)"
  has "visitors get v1" "version v1" "$(page web)"
}

#### Somebody who may write the manifest and open a pull request
echo 'version evil' >"$SCRATCH/clone/VERSION"
push refs/pull/7/head
on git git config --system uploadpack.allowAnySHA1InWant true
check "the sha of a pull request is published" publish "$pushed"
refused "is on no branch and no tag" allow_refs
attacked "manifest + fork" "the sha of a pull request" "refused: on no branch and no tag"

#### Somebody who may push
head -c 1200000000 /dev/zero >"$SCRATCH/clone/bomb"
push main
check "a commit with a blob of 1.2 GB in a small pack is published" publish "$pushed"
bounded 700 '`bomb`'
attacked "who may push" "a blob of 1.2 GB in a pack of 1 MB" "refused by its header, with its path"

write git:/root/secret 600 <<<'a secret of root'
printf '[lfs]\n\turl = file:///root\n\tstandalonetransferagent = run\n[lfs "customtransfer.run"]\n\tpath = /usr/bin/touch\n\targs = /root/was-here\n' >"$SCRATCH/clone/.lfsconfig"
echo '*.bin filter=lfs' >"$SCRATCH/clone/.gitattributes"
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:%064d\nsize 12\n' 0 >"$SCRATCH/clone/a.bin"
push main
check "a commit with an .lfsconfig is published" publish "$pushed"
refused "a.bin" "Git LFS"
code "nothing that it names was run" 1 on web test -e /root/was-here
attacked "who may push" ".lfsconfig with file:// and a program of its own" "does not count"

echo '*.key filter=git-crypt' >"$SCRATCH/clone/.gitattributes"
printf '\0GITCRYPT\0000123456789012ciphertext' >"$SCRATCH/clone/shop.key"
push main
check "a commit with ciphertext is published" publish "$pushed"
refused "would be deployed as ciphertext" "shop.key"
attacked "nobody" "a file of git-crypt without its key" "refused"

# Put together by hand: git itself does not end with such a pattern.
bare() { git -C "$SCRATCH/shop.git" "$@"; }
deep=$(printf '100644 blob %s\tb\n' "$(bare hash-object -w --stdin <<<x)" | bare mktree)
for _ in {1..60}; do deep=$(printf '040000 tree %s\ta\n' "$deep" | bare mktree); done
pattern=$(printf '%szz export-ignore\n' "$(printf '**/%.0s' {1..40})" | bare hash-object -w --stdin)
tree=$({ bare ls-tree "${sha[v1]}"; printf '100644 blob %s\t.gitattributes\n040000 tree %s\ta\n' "$pattern" "$deep"; } | bare mktree)
pushed=$(bare -c user.name=Mallory -c user.email=m@shop.invalid commit-tree -p "${sha[v1]}" -m Wild "$tree")
bare update-ref refs/heads/main "$pushed"
serve
check "a commit with a pattern of forty ** is published" publish "$pushed"
refused 'line 1 of `.gitattributes`' "more than 10 places"
attacked "who may push" "a pattern that takes for ever to compare" "refused with its line"

echo '*.s export-subst' >"$SCRATCH/clone/.gitattributes"
for n in {1..64}; do
  mkdir -p "$SCRATCH/clone/big/$n"
  echo "$n \$Format:$(printf '%%s%.0s' {1..99})\$" >"$SCRATCH/clone/big/$n/x.s"
done
push main "$(head -c 1000000 /dev/zero | tr '\0' S)"
check "a commit whose 1 MB subject is substituted 6336 times is published" publish "$pushed"
refused "grows beyond 65536 bytes" "export-subst"
attacked "who may push" "export-subst that unfolds to 6 GB" "refused with its path"

#### The git server itself: whatever is asked over ssh, it lists refs without an end
write git:/usr/local/bin/endless 755 <<'END'
#!/usr/bin/python3
import os
number = 0
while True:
    lines = ""
    for _ in range(1000):
        number += 1
        text = f"{number:040x} refs/heads/{number}" + ("\0agent=git/9" if number == 1 else "") + "\n"
        lines += f"{len(text) + 4:04x}{text}"
    os.write(1, lines.encode())
END
on git sed -i 's#^restrict #restrict,command="/usr/local/bin/endless" #' /srv/git/.ssh/authorized_keys
on git usermod --shell /bin/sh git
check "a sha that the host does not have is published" publish 00112233445566778899aabbccddeeff00112233
bounded 400 "list of branches, tags and other refs is longer than 32 MiB"
attacked "git server" "refs without an end" "cut off at 32 MiB"

on git sed -i 's#^restrict,command="[^"]*" #restrict #' /srv/git/.ssh/authorized_keys
on git usermod --shell /usr/bin/git-shell git
check "one of the repository's is published" publish "${sha[v2]}"
check "with the real server the next pass deploys" on web trueup converge --force
wait_for 10 "visitors get v2" page_has web "version v2"
same "no half-received pack is left" "" "$(on web find /var/lib/trueup/mirrors -name '*_git2_*')"

# By default git accepts malformed objects, and serves them.
bad=$(printf 'tree %s\nparent %s\nauthor M <m@shop.invalid> 1795866000 +0000\n\nno committer\n' \
  "$(git -C "$SCRATCH/shop.git" rev-parse "${sha[v1]}^{tree}")" "${sha[v1]}" |
  git -C "$SCRATCH/shop.git" hash-object -t commit -w --stdin --literally)
for topic in aaa zzz; do
  git -C "$SCRATCH/shop.git" update-ref "refs/heads/$topic" "$bad"
  echo "version beside $topic" >"$SCRATCH/clone/VERSION"
  push main
  check "a commit is published while $topic is malformed" publish "$pushed"
  check "a pass deploys it" on web trueup converge --force
  wait_for 10 "visitors get it" page_has web "version beside $topic"
  git -C "$SCRATCH/shop.git" update-ref -d "refs/heads/$topic"
  echo "version after $topic" >"$SCRATCH/clone/VERSION"
  push main
  check "the next is published" publish "$pushed"
  check "a pass deploys that" on web trueup converge --force
  wait_for 10 "visitors get that" page_has web "version after $topic"
done
attacked "who may push" "a commit that does not parse, on a topic branch" "that branch is left out, main is deployed"

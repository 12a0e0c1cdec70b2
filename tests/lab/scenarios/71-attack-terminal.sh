#!/bin/bash
# 71-attack-terminal: a build, a service and a publisher attack the terminal, the shell and the secrets of the operator who runs a pass
# timeout: 180
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server
give_s3
give_server web app <<END
packages: [nginx-light, ruby, bundler]
apps:
  shop:
    repo: "git@$git_address:shop.git"
    port: 3000
    secrets: {SECRET_KEY_BASE: $CANARY}
    steps:
      - {name: install, run: bundle check}
      - {name: attack, run: "trap '' HUP TERM; kill -HUP 0; kill -TERM 0; attack >log/attack 2>&1; umask >log/umask; ls /proc/self/fd >log/fds; if [ -e /run/fail ]; then echo key \$SECRET_KEY_BASE; printf '\\\\033]52;c;aGk=\\\\007\\\\rhidden\\\\302\\\\2338m'; exit 1; fi"}
    assets: {run: "bin/build; ls -l public/assets >log/assets"}
END

# What one bad gem would run: types a line into whatever terminal it can open, and reads what it was left.
write web:/usr/local/bin/attack 755 <<'END'
#!/usr/bin/perl
print "fd 9: ", scalar(<$f>), "\n" if open my $f, "<&=", 9;
open my $tty, "+<", "/dev/tty" or do { print "no terminal: $!\n"; exit };
print $tty "scribbled\n";
ioctl $tty, 0x5412, my $key = $_ or do { print "cannot type: $!\n"; exit } for split //, "\nid >/root/owned\n";
print "typed\n";
END

# operator COMMAND: root types it into a shell at a terminal, with odd habits, and leaves when it has ended. What was on the
# screen is in $screen.
operator() {
  on web rm -f /run/ended /run/screen
  {
    printf '%s\n' 'umask 077; ulimit -n 400; exec 9</root/.aws/credentials' "$1; touch /run/ended"
    until on web test -e /run/ended; do sleep .2; done
    sleep .5
    printf '\nexit\n'
  } | on web env TERM=xterm script -qec 'bash --norc -i' /run/screen >/dev/null
  screen=$(on web cat /run/screen)
}
owned() { on web test -e /root/owned; }

check "v1 is published" publish "${sha[v1]}" --create

operator "useradd --system victim; setpriv --reuid victim --regid victim --clear-groups attack"
case $(cat /proc/sys/dev/tty/legacy_tiocsti 2>/dev/null || echo 1) in
  1) wait_for 5 "whoever has a terminal of root's types into his shell" owned; on web rm /root/owned;;
  *) echo "  note    this kernel lets nobody type into a terminal (dev.tty.legacy_tiocsti=0)";;
esac
has "and writes on it" scribbled "$screen"

operator "trueup converge; echo the pass ended with \$?"
has "an operator deploys" "the pass ended with 0" "$screen"
has "the build has no terminal" "no terminal: No such device or address" "$(on web cat /srv/www/shop/shared/log/attack)"
same "and typed nothing" no "$(owned && echo yes || echo no)"
attacked "deploy user" "a build step types into root's shell (TIOCSTI)" "no terminal to open; nothing was typed"
[[ $screen != *scribbled* ]] || fail "and wrote nothing" "$screen"
same "the build has none of the operator's open files" "0 1 2 3" "$(on web cat /srv/www/shop/shared/log/fds | tr '\n' ' ' | sed 's/ $//')"
[[ $(on web cat /srv/www/shop/shared/log/attack) != *"fd 9"* ]] || fail "nor reads them"
attacked "deploy user" "a build step signals the operator's shell (kill 0)" "it reached itself"
attacked "deploy user" "a build step reads what root's shell has open" "standard streams alone"
same "the build does not have the operator's umask" 0022 "$(on web cat /srv/www/shop/shared/log/umask)"
has "so that nginx can serve what it made" "-rw-r--r--" "$(on web cat /srv/www/shop/shared/log/assets)"
wait_for 10 "visitors get v1" page_has web "version v1"

on web touch /run/fail
check "v2 is published" publish "${sha[v2]}"
operator "trueup converge; echo the pass ended with \$?"
has "the failed build is reported on the screen" "the pass ended with 1" "$screen"
has "with what it printed" ']52;c;aGk=' "$screen"
[[ $screen != *$'\e]52'* ]] || fail "which does nothing to the terminal" "$(printf %q "$screen")"
[[ $screen != *$'\rhidden'* && $screen != *$'\xc2\x9b'* ]] || fail "and hides nothing" "$(printf %q "$screen")"
attacked "deploy user" "a build's output writes the clipboard (OSC 52), hides a line" "shown as text"
has "the screen shows no secret" "key (secret)" "$screen"
attacked "deploy user" "a failing build prints the app's secrets into reports" "redacted"
same "the injected command did not run" no "$(owned && echo yes || echo no)"

operator "trueup exec shop -- attack; echo the command ended with \$?"
has "a person's command has a terminal" scribbled "$screen"
has "the screen shows the exit code of the command" "the command ended with 0" "$screen"
same "the operator's shell did not run it" no "$(owned && echo yes || echo no)"
attacked "deploy user" "a command of \`trueup exec\` types into root's shell" "it typed into its own terminal"
operator "trueup exec shop -- sh -c 'test -t 0 && tty; stty size' ; stty -a | grep -o ' echo '"
has "the shell's terminal is as it was" " echo " "$screen"

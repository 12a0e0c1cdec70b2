#!/bin/bash
# 64-deploy-login: the deploy user can log in with its key in spite of password ageing, or trueup says why it cannot
# timeout: 90
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

ssh-keygen -q -t ed25519 -N "" -C ana@desk -f "$SCRATCH/key"
host web
give_trueup web
on web sh -c 'mkdir -p /srv/store /etc/trueup; echo "production: {}" >/srv/store/sha_number.yml'
# settings SHELL
settings() {
  write web:/etc/trueup/node.yml <<END_OF_SETTINGS
environment: production
roles: [base]
store: {url: "dir:/srv/store"}
attributes: {deploy_authorized_keys: ["$(cat "$SCRATCH/key.pub")"], deploy_shell: $1}
END_OF_SETTINGS
}
login() {
  ssh -q -i "$SCRATCH/key" -o BatchMode=yes -o IdentitiesOnly=yes -o ConnectTimeout=10 -o StrictHostKeyChecking=no \
    -o UserKnownHostsFile=/dev/null "deploy@$(address web)" echo it is me 2>&1
}
# It does not listen for a moment.
reload_sshd() {
  on web systemctl restart ssh
  wait_for 10 "sshd listens" ssh-keyscan -T 1 -t ed25519 "$(address web)"
}
shadow() { on web sh -c "grep ^deploy: /etc/shadow | cut -d: -f2,5,7,8"; }
settings /bin/bash

#### Password ageing
# As hardening guides want it for the accounts of people.
on web sh -c 'sed -i "s/^PASS_MAX_DAYS.*/PASS_MAX_DAYS 90/" /etc/login.defs; useradd -D -f 30'
check "a pass makes the deploy user" on web trueup converge
same "its password, which nobody has, does not age" "!:::" "$(shadow)"
check "it can log in with its key" login
code "a second pass changes nothing" 0 on web trueup plan

on web chage -M 90 -I 30 -d 2020-01-01 deploy
code "with an aged password it cannot log in" 255 login
code "which a plan shows" 2 on web trueup plan
has "as what it is" "ageing" "$output"
check "a pass ends it" on web trueup converge
check "it can log in" login
on web chage -d 0 deploy
code "with a password that has to be changed it cannot do a thing" 1 login
check "a pass ends that, too" on web trueup converge
check "it can log in" login
code "and then nothing is left to do" 0 on web trueup plan
on web sh -c 'useradd -m -p "$(openssl passwd -6 secret 2>/dev/null || echo "\$6\$x\$y")" bob; chage -M 90 bob'
check "a pass" on web trueup converge
same "leaves the ageing of others alone" 90 "$(on web sh -c 'grep ^bob: /etc/shadow | cut -d: -f5')"

#### An expired account
on web chage -E 2020-01-01 deploy
code "an expired account cannot log in" 255 login
code "trueup does not let it live on, which may be meant so" 0 on web trueup converge
has "but says it" "expired on 2020-01-01" "$output"
has "with what to do" "chage -E -1 deploy" "$output"
on web chage -E -1 deploy
check "it can log in again" login

#### A shell that is not there
settings /usr/bin/zsh
code "a shell that the host does not have is refused at the plan" 1 on web trueup plan
has "with what to do" "describe the package that brings /usr/bin/zsh" "$output"
code "and in a pass" 1 on web trueup converge
has "which leaves the account as it was" ":/bin/bash" "$(on web grep ^deploy: /etc/passwd)"
settings /bin/bash

#### Keys elsewhere
check "with its shell the pass succeeds" on web trueup converge
code "doctor looks whether sshd reads the keys" 0 on web trueup doctor
has "which it does" "ok    keys deploy               sshd reads /home/deploy/.ssh/authorized_keys" "$output"
write web:/etc/ssh/sshd_config.d/keys.conf <<<"AuthorizedKeysFile /etc/ssh/keys/%u"
reload_sshd
code "where it reads others" 255 login
code "doctor" 1 on web trueup doctor
has "says so" "sshd does not read /home/deploy/.ssh/authorized_keys" "$output"
has "and what it reads" "/etc/ssh/keys/deploy" "$output"
write web:/etc/ssh/sshd_config.d/keys.conf <<<$'AuthorizedKeysFile /etc/ssh/keys/%u\nMatch User deploy\n  AuthorizedKeysFile .ssh/authorized_keys'
reload_sshd
check "with what it recommends the deploy user can log in" login
code "and doctor" 0 on web trueup doctor
has "is content" "ok    keys deploy" "$output"
write web:/etc/ssh/sshd_config.d/keys.conf <<<"UsePAM no"
reload_sshd
code "without PAM, sshd refuses an account with a locked password" 255 login
code "doctor" 1 on web trueup doctor
has "says so" "sshd does not use PAM" "$output"

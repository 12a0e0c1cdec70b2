#!/bin/bash
# 42-first-boot: a host configures itself at its first boot, by the shipped user data for cloud-init
# timeout: 240
# packages: cloud-init
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

make_package
give_git_server
give_s3
check "CI publishes v1" "$TRUEUP" publish production "shop=${sha[v1]}" --create --store "s3://$bucket" \
  --region "$AWS_REGION" --endpoint "$endpoint" --path-style

# The shipped user data with this lab's addresses in the place of the example's, and what only the lab needs: keys for the
# store where an instance has a role, and no gems but Debian's.
host web
give_apt_repo web
give_keys web
lab cp "$package" "web:/srv/trueup.deb"
on git cat /root/deploy_key >"$SCRATCH/deploy_key"
known="$git_address $(on git cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub)"
python3 - "$tests/../packaging/cloud-init.yml" "$SCRATCH/user-data" \
  "s3://$bucket\", region: $AWS_REGION, endpoint: \"$endpoint\", path_style: true}" "$known" "git@$git_address:shop.git" \
  "$SCRATCH/deploy_key" <<'END'
import re, sys
sample, made, store, known, repo, key = sys.argv[1:]
text = open(sample).read()
def put(pattern, words):
    global text
    text, count = re.subn(pattern, lambda _: words, text, flags=re.S)
    assert count == 1, pattern
put(r's3://acme-deploys", region: eu-west-1\}', store)
put(r'github\.com ssh-ed25519 \w+', known)
put(r'git@github\.com:acme/shop\.git", port: 3000\}', repo + '", port: 3000, steps: [{name: install, run: bundle check}], assets: {run: bin/build}}')
put(r'        apps:\n', '        packages: [nginx-light, ruby, bundler]\n        apps:\n')
put(r'-----BEGIN.*-----END OPENSSH PRIVATE KEY-----', open(key).read().strip().replace('\n', '\n      '))
put(r'https://packages\.example\.com/trueup_amd64\.deb', 'file:///srv/trueup.deb')
open(made, 'w').write(text)
END
lab cp "$SCRATCH/user-data" web:/var/lib/cloud/seed/nocloud/user-data
write web:/var/lib/cloud/seed/nocloud/meta-data <<<'instance-id: i-1'
write web:/etc/cloud/cloud.cfg.d/99-lab.cfg <<'END'
datasource_list: [NoCloud]
network: {config: disabled}
locale: false
END
on web rm -rf /var/lib/cloud/instance /var/lib/cloud/instances /run/cloud-init
check "cloud-init takes the sample for what it should be" on web cloud-init schema --config-file /var/lib/cloud/seed/nocloud/user-data
code "nothing of trueup is there" 1 on web sh -c 'test -e /usr/bin/trueup || test -e /etc/trueup'
lab kill web
host web
started=$SECONDS
wait_for 120 "after its first boot the host serves the app" page_has web "version v1"
echo "  $((SECONDS - started)) s after it was switched on"
same "cloud-init reports no problem" "" "$(on web sh -c 'cloud-init status --wait >/dev/null; grep -iE "traceback|failed" /var/log/cloud-init-output.log' || :)"
same "the settings are root's" "600 600" "$(on web stat -c %a /etc/trueup/node.d/host.yml /etc/trueup/deploy_key | xargs)"
settled() { on web trueup status >/dev/null; }
wait_for 60 "and the host is as described" settled

#!/bin/bash
# 44-image: the package is installed in an image without a running systemd; the booted image deploys by its timer
# timeout: 300
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

make_package
give_git_server
give_s3
give_app_server web "git@$git_address:shop.git"
check "v1 is published" publish "${sha[v1]}" --create
# The disk of a host that is off is the image; the settings are there before the package.
on web sh -c 'rm -r /usr/bin/trueup /usr/share/trueup
  mkdir /etc/trueup/node.d /root/settings; mv /etc/trueup/node.yml /etc/trueup/node.d/host.yml'
lab cp "$package" web:/root/trueup.deb
lab kill web
disk=$(disk web)
in_image() {
  # shellcheck disable=SC2016
  unshare --mount --pid --fork --kill-child bash -ec '
    cd "$1"; mount -t overlay overlay -o "lowerdir=$(cat base),upperdir=$1/upper,workdir=$1/work" root
    mount -t proc proc root/proc; shift; exec chroot root env -i PATH="$PATH" HOME=/root LC_ALL=C DEBIAN_FRONTEND=noninteractive "$@"' - "${disk%/*}" "$@"
}
link=/etc/systemd/system/timers.target.wants/trueup.timer

code "there is no systemd to talk to" 1 in_image test -e /run/systemd/system
check "settings are taken away" in_image mv /etc/trueup/node.d/host.yml /root/settings/
check "the package is installed where nothing is set" in_image apt-get -qq install /root/trueup.deb
code "no unit is enabled" 1 in_image test -L $link
check "init works there" in_image trueup init --env production --role app --store s3://acme-deploys --region eu-west-1 \
  --app shop=git@git.invalid:shop.git --set apps.shop.port=3000 --unchecked --no-timer
check "the timer can be enabled by hand" in_image systemctl --quiet enable trueup.timer
check "which is for the first boot" in_image test -L $link
check "it is purged" in_image apt-get -qq purge trueup
same "and nothing of it is left" "" "$(in_image sh -c "ls -d /etc/trueup /run/trueup /usr/bin/trueup $link 2>/dev/null" || :)"
check "settings are there" in_image sh -c 'mkdir -p /etc/trueup/node.d; mv /root/settings/host.yml /etc/trueup/node.d/'
check "the package is installed" in_image apt-get -qq install /root/trueup.deb
check "the timer is enabled" in_image test -L $link
check "it is removed" in_image apt-get -qq remove trueup
code "with the timer" 1 in_image test -L $link
check "and installed again" in_image apt-get -qq install /root/trueup.deb
check "with the timer" in_image test -L $link

on git cat /root/deploy_key >"$SCRATCH/deploy_key"
check "the deploy key is brought" in_image sh -c 'umask 077; cat >/etc/trueup/deploy_key' <"$SCRATCH/deploy_key"
host web
wait_for 60 "what boots from it serves the app" page_has web "version v1"
same "by its timer" "active enabled" "$(on web systemctl is-active trueup.timer) $(on web systemctl is-enabled trueup.timer)"

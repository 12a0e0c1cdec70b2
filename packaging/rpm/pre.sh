# $1: how many of this package there will be; 2 is an upgrade. No pass begins with the new program and the old roles; one
# that runs goes on. In an image that is being made there is no systemd to ask, and the timer is enabled for its first boot.
if [ "$1" = 1 ]; then
    mkdir -p /run/trueup
    echo enable >/run/trueup/arm
elif [ -d /run/systemd/system ] && systemctl --quiet is-active trueup.timer; then
    mkdir -p /run/trueup
    echo start >/run/trueup/arm
    systemctl stop trueup.timer || :
fi

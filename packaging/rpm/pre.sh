# $1: how many of this package there will be; 2 is an upgrade. No pass begins with the new program and the old roles; one
# that runs goes on.
[ -d /run/systemd/system ] || exit 0
mkdir -p /run/trueup
if [ "$1" = 1 ]; then
    echo enable >/run/trueup/arm
elif systemctl --quiet is-active trueup.timer; then
    echo start >/run/trueup/arm
    systemctl stop trueup.timer || :
fi

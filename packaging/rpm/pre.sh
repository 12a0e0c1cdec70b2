# $1: the number of installed versions afterwards; 2 is an upgrade, which stops the timer so that no pass starts with the
# new program and the old roles. A running pass continues. In an image, where systemd does not run, a first installation
# enables the timer for the first boot.
if [ "$1" = 1 ]; then
    mkdir -p /run/trueup
    echo enable >/run/trueup/arm
elif [ -d /run/systemd/system ] && systemctl --quiet is-active trueup.timer; then
    mkdir -p /run/trueup
    echo start >/run/trueup/arm
    systemctl stop trueup.timer || :
fi

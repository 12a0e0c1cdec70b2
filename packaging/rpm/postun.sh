# Apps stay, with their releases, units and sites. rpm knows no purge: /etc/trueup and /var/lib/trueup stay as well.
[ "$1" != 0 ] || rm -rf /run/trueup
[ ! -d /run/systemd/system ] || systemctl daemon-reload || :

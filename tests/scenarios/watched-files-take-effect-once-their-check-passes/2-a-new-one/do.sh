echo two >"$ROOT/etc/certs/a.pem"

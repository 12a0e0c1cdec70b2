echo bad >"$ROOT/etc/certs/b.pem"

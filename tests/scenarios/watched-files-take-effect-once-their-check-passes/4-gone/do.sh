rm "$ROOT/etc/certs/a.pem"

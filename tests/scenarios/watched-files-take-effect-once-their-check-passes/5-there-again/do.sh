echo three >"$ROOT/etc/certs/a.pem"; rm "$ROOT/etc/certs/b.pem"

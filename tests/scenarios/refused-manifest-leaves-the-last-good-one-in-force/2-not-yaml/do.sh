echo drift >"$ROOT/srv/a"

mv "$STORE" "$STORE.gone"
echo drift >"$ROOT/srv/a"

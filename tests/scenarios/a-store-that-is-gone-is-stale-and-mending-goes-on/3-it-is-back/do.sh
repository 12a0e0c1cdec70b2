mv "$STORE.gone" "$STORE"

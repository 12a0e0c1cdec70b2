rm "$STORE/sha_number.yml"

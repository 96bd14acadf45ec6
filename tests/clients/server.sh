# Read by the scripts here: starts pled on a free loopback port, and ends it with the script.

# start PLED [ARGUMENT...]: returns when it serves; sets `address` (IP:PORT) and `log`.
start() {
  log=$(mktemp)
  "$1" serve "${@:2}" --listen 127.0.0.1:0 2>"$log" &
  server=$!
  trap 'kill $server 2>/dev/null; wait $server 2>/dev/null || true; rm -f "$log"' EXIT
  address=
  for _ in $(seq 600); do
    address=$(grep -oE '127\.0\.0\.1:[0-9]+' "$log" | head -n 1) || true
    [ -n "$address" ] && grep -q 'ready' "$log" && break
    kill -0 $server || { cat "$log" >&2; exit 1; }
    sleep 0.1
  done
}

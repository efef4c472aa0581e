#!/usr/bin/env bash
# Starts RabbitMQ in its container, and ends it once its disk was full and has space again, so that Docker starts it anew:
# after a write of the Raft log has failed, its queues take nothing more, and it does not stop cleanly either.
# What it has confirmed is on disk.
set -u
folder=/var/lib/rabbitmq
full_kb=16000 enough_kb=500000 # as disk_free_limit in rabbitmq.conf

end_node() {
  for comm in /proc/[0-9]*/comm; do
    [ "$(cat "$comm" 2>/dev/null)" = beam.smp ] && kill -KILL "$(basename "$(dirname "$comm")")"
  done
}

watch_disk() {
  local was_full='' free_kb
  while sleep 1; do
    free_kb=$(df --output=avail -k "$folder" | tail -n 1)
    if [ "$free_kb" -lt "$full_kb" ]; then
      was_full=yes
    elif [ "$was_full" ] && [ "$free_kb" -ge "$enough_kb" ]; then
      echo "the disk was full: RabbitMQ is started again" >&2
      was_full=''
      end_node
    fi
  done
}

watch_disk &
RABBITMQ_DEFAULT_PASS=$(cat /run/secrets/password)
export RABBITMQ_DEFAULT_PASS
exec docker-entrypoint.sh rabbitmq-server

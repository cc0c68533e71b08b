#!/bin/sh
# PostgreSQL as Debian packages it, on the disk at /data. It refuses to be root.
set -e
for folder in /usr/lib/postgresql/*/bin; do PATH=$folder:$PATH; done
as_nobody="setpriv --reuid=nobody --regid=nogroup --clear-groups"

mkdir -p /data/postgres
chown nobody:nogroup /data/postgres
if [ ! -s /data/postgres/PG_VERSION ]; then
    $as_nobody initdb --pgdata=/data/postgres --auth=trust --username=postgres
    echo "host all all samenet trust" >>/data/postgres/pg_hba.conf
fi
# Told to end, it would wait for its clients to leave; this way it ends their sessions.
trap 'kill -INT "$server"' TERM
$as_nobody postgres -D /data/postgres -h 0.0.0.0 -p "$PORT" -k /tmp &
server=$!
wait "$server" || wait "$server"

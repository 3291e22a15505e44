#!/bin/bash
# Speaks the environment variables of the official PostgreSQL image: POSTGRES_USER, _PASSWORD, _DB,
# _INITDB_ARGS, _HOST_AUTH_METHOD, each also as NAME_FILE; PGDATA; /docker-entrypoint-initdb.d.
set -euo pipefail

fail() {
    echo "postgres: $*" >&2
    exit 1
}

# Takes a setting from NAME or from the file that NAME_FILE names, else the default.
setting() {
    local name=$1 default=${2-} file_name=${1}_FILE
    if [[ -n ${!name-} && -n ${!file_name-} ]]; then
        fail "both $name and $file_name are set: keep one of them"
    fi
    if [[ -n ${!file_name-} ]]; then
        [[ -r ${!file_name} ]] || fail "$file_name names ${!file_name}, which cannot be read"
        printf -v "$name" '%s' "$(<"${!file_name}")"
    else
        printf -v "$name" '%s' "${!name-$default}"
    fi
    unset "$file_name"
}

run_sql() {
    psql --no-psqlrc -v ON_ERROR_STOP=1 --no-password --username "$POSTGRES_USER" "$@"
}

run_init_files() {
    local file
    for file in /docker-entrypoint-initdb.d/*; do
        case $file in
            # Sourced, as the official image does with scripts that are not executable.
            # shellcheck disable=SC1090
            *.sh) if [[ -x $file ]]; then "$file"; else . "$file"; fi ;;
            *.sql) run_sql --dbname "$POSTGRES_DB" --file "$file" ;;
            *.sql.gz) gunzip --stdout "$file" | run_sql --dbname "$POSTGRES_DB" ;;
        esac
    done
}

initialise() {
    setting POSTGRES_PASSWORD
    setting POSTGRES_USER postgres
    setting POSTGRES_DB "$POSTGRES_USER"
    setting POSTGRES_INITDB_ARGS
    setting POSTGRES_HOST_AUTH_METHOD scram-sha-256
    if [[ -z $POSTGRES_PASSWORD && $POSTGRES_HOST_AUTH_METHOD != trust ]]; then
        fail "no superuser password: set POSTGRES_PASSWORD to a non-empty value" \
            "(or POSTGRES_HOST_AUTH_METHOD=trust, which lets everybody in)"
    fi
    mkdir -p "$PGDATA" 2> /dev/null && chmod 0700 "$PGDATA" 2> /dev/null ||
        fail "cannot use $PGDATA as uid $(id -u): is the volume owned by another user?"

    # initdb splits POSTGRES_INITDB_ARGS like a shell would: quoting inside it counts.
    eval "initdb --username \"\$POSTGRES_USER\" \
        --pwfile <(printf '%s\\n' \"\$POSTGRES_PASSWORD\") $POSTGRES_INITDB_ARGS"
    printf '\nhost all all all %s\n' "$POSTGRES_HOST_AUTH_METHOD" >> "$PGDATA/pg_hba.conf"
    printf "\nlisten_addresses = '*'\n" >> "$PGDATA/postgresql.conf"

    # Only on the socket: nobody can mistake the half-made server for the real one.
    PGPASSWORD=$POSTGRES_PASSWORD
    export PGPASSWORD POSTGRES_USER POSTGRES_PASSWORD POSTGRES_DB
    pg_ctl --wait --options "-c listen_addresses=''" start
    if [[ $POSTGRES_DB != postgres ]]; then
        run_sql --dbname postgres --set name="$POSTGRES_DB" <<< 'CREATE DATABASE :"name";'
    fi
    run_init_files
    pg_ctl --wait --mode fast stop
    unset PGPASSWORD
}

if [[ ${1-} == -* ]]; then
    set -- postgres "$@"
fi
if [[ ${1-} == postgres && ! -s $PGDATA/PG_VERSION ]]; then
    initialise
fi
exec "$@"

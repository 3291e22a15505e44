#!/bin/bash
# Speaks the environment variables of the official MariaDB and MySQL images: MARIADB_ROOT_PASSWORD,
# MARIADB_DATABASE, MARIADB_USER, MARIADB_PASSWORD, each also as MYSQL_... and as NAME_FILE; and
# /docker-entrypoint-initdb.d.
set -euo pipefail

readonly DATA=/var/lib/mysql
readonly SOCKET=/run/mysqld/mysqld.sock

fail() {
    echo "mysql: $*" >&2
    exit 1
}

# Prints a setting: from MARIADB_NAME, MYSQL_NAME or the file that one of them with _FILE names.
setting() {
    local prefix name file
    for prefix in MARIADB MYSQL; do
        name=${prefix}_$1 file=${prefix}_${1}_FILE
        if [[ -n ${!name-} ]]; then
            printf '%s' "${!name}"
            return
        fi
        if [[ -n ${!file-} ]]; then
            [[ -r ${!file} ]] || fail "$file names ${!file}, which cannot be read"
            printf '%s' "$(<"${!file}")"
            return
        fi
    done
}

# Writes a value as SQL does.
quoted() {
    local value=${1//\\/\\\\}
    printf "'%s'" "${value//\'/\'\'}"
}

named() {
    # shellcheck disable=SC2016
    printf '`%s`' "${1//\`/\`\`}"
}

# The statements that make accounts and the database.
first_statements() {
    local root=$1 database=$2 user=$3 password=$4
    echo "ALTER USER 'root'@'localhost' IDENTIFIED BY $(quoted "$root");"
    echo "CREATE USER 'root'@'%' IDENTIFIED BY $(quoted "$root");"
    echo "GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION;"
    if [[ -n $database ]]; then
        echo "CREATE DATABASE IF NOT EXISTS $(named "$database");"
    fi
    if [[ -n $user ]]; then
        echo "CREATE USER $(quoted "$user")@'%' IDENTIFIED BY $(quoted "$password");"
    fi
    if [[ -n $user && -n $database ]]; then
        echo "GRANT ALL ON $(named "$database").* TO $(quoted "$user")@'%';"
    fi
}

initialise() {
    local root database user password file process
    root=$(setting ROOT_PASSWORD)
    database=$(setting DATABASE)
    user=$(setting USER)
    password=$(setting PASSWORD)
    [[ -n $root ]] || fail "no root password: set MARIADB_ROOT_PASSWORD to a non-empty value"
    [[ -z $user || -n $password ]] || fail "MARIADB_USER is set without MARIADB_PASSWORD"
    [[ -w $DATA ]] || fail "cannot use $DATA as uid $(id -u): is the volume owned by another user?"

    mariadb-install-db --datadir="$DATA" --auth-root-authentication-method=normal --skip-test-db \
        > /dev/null
    # Only on the socket: nobody can mistake the half-made server for the real one.
    mariadbd --datadir="$DATA" --socket="$SOCKET" --skip-networking &
    process=$!
    until mariadb --socket="$SOCKET" --user=root --execute='DO 0' 2> /dev/null; do
        kill -0 "$process" || fail "the server ended before it could be set up"
        sleep 0.2
    done
    first_statements "$root" "$database" "$user" "$password" |
        mariadb --socket="$SOCKET" --user=root
    export MYSQL_PWD=$root
    for file in /docker-entrypoint-initdb.d/*; do
        case $file in
            *.sql) mariadb --socket="$SOCKET" --user=root --database="$database" < "$file" ;;
            *.sql.gz)
                gunzip --stdout "$file" |
                    mariadb --socket="$SOCKET" --user=root --database="$database"
                ;;
        esac
    done
    mariadb --socket="$SOCKET" --user=root --execute=SHUTDOWN
    wait "$process"
    unset MYSQL_PWD
}

if [[ ${1-} == -* ]]; then
    set -- mariadbd "$@"
fi
if [[ ${1-} == mariadbd ]]; then
    if [[ ! -d $DATA/mysql ]]; then
        initialise
    fi
    set -- "$@" --datadir="$DATA" --socket="$SOCKET" --bind-address=0.0.0.0
fi
exec "$@"

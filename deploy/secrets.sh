#!/bin/sh
# Makes the secrets of docker-compose.yml, one file each, and leaves alone those that are there: deploy/secrets.sh [FOLDER]
# A password that the database knows already would not change with its file: see docs/operate.md for changing one.
set -eu
umask 022
folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
chmod 700 "$folder" # the files are mounted one by one, into containers whose account is not ours: they stay readable

random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
keep() { # NAME VALUE, without a newline
    if [ ! -e "$folder/$1" ]; then printf %s "$2" >"$folder/$1.new" && mv "$folder/$1.new" "$folder/$1"; fi
}

keep postgres-password "$(random)"
keep database-url "postgresql://purl:$(cat "$folder/postgres-password")@postgres/purl"
keep s3-access-key "$(random | cut -c1-20)"
keep s3-secret-key "$(random)"
keep s3-config.json "{\"identities\": [{\"name\": \"purl\", \"actions\": [\"Admin\", \"Read\", \"Write\", \"List\"], \"credentials\": \
[{\"accessKey\": \"$(cat "$folder/s3-access-key")\", \"secretKey\": \"$(cat "$folder/s3-secret-key")\"}]}]}"
keep ray-token "$(random)"
keep grafana-password "$(random | cut -c1-24)"
# The first key of the API, in the form that services/keys.py gives to all: 12 characters to name it, 32 random bytes.
keep api-key "purl_$(random | cut -c1-12)_$(head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n')"
echo "secrets are in $folder"

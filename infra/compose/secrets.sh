#!/bin/sh
# Random passwords for compose.yaml, in the folder `secrets` beside this file; those that exist stay.
# The folder is for its owner alone. The files in it can be read by all, since a container's user has another number.
set -eu
folder=$(dirname "$0")/secrets
mkdir -p "$folder"
chmod 700 "$folder"
for name in RAY_AUTH_TOKEN MLFLOW_TRACKING_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY PGPASSWORD AWS_ACCESS_KEY_ID \
    AWS_SECRET_ACCESS_KEY GRAFANA_PASSWORD; do
    [ -s "$folder/$name" ] || head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' > "$folder/$name"
    chmod 444 "$folder/$name"
done
echo "passwords are in $folder: MLflow and Ray's dashboard ask for MLFLOW_TRACKING_PASSWORD (user admin) and RAY_AUTH_TOKEN"

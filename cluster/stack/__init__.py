"""The services of a cluster on one machine, as processes on loopback: a Ray head, an MLflow server, an S3 server.

services.py     what is started: command, environment, when it is ready
processes.py    starting processes, and finding all that descend from them again
stack.py        `stillhouse up` and `stillhouse down`
ceph.py         a single-node Ceph gateway, a script of its own that also the container image runs
"""

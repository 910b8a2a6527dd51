"""A whole S3 service in one process: OpenStack Swift's proxy, account, container and object servers on loopback.

`python -m tests.programs.swift_server FOLDER` says its address in one line and serves until it is ended.
"""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

# eventlet says of itself that it is in its last years; the server of a test has fewer.
warnings.simplefilter("ignore")

import eventlet  # noqa: E402

eventlet.monkey_patch()

from eventlet import wsgi  # noqa: E402
from swift.common import utils  # noqa: E402
from swift.common.ring import RingBuilder  # noqa: E402
from swift.common.wsgi import SwiftHttpProtocol, loadapp  # noqa: E402

KEY, SECRET, REGION = "test:tester", "testing", "us-east-1"

BACKEND = """
[DEFAULT]
devices = {folder}/devices
mount_check = false
swift_dir = {folder}
fallocate_reserve = 0
log_level = ERROR

[app:main]
use = egg:swift#{kind}
"""

PROXY = """
[DEFAULT]
swift_dir = {folder}
log_level = ERROR

[pipeline:main]
pipeline = catch_errors cache listing_formats bulk s3api tempauth slo proxy-server

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true

[filter:catch_errors]
use = egg:swift#catch_errors

[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1

[filter:listing_formats]
use = egg:swift#listing_formats

[filter:bulk]
use = egg:swift#bulk

[filter:slo]
use = egg:swift#slo

[filter:s3api]
use = egg:swift#s3api
location = us-east-1

[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
"""


def ring(folder: Path, kind: str, port: int) -> None:
    """One copy of everything on one device."""
    builder = RingBuilder(part_power=2, replicas=1, min_part_hours=0)
    device = {"id": 0, "region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "d", "weight": 1}
    builder.add_dev({**device, "replication_ip": "127.0.0.1", "replication_port": port})
    builder.rebalance()
    builder.get_ring().save(str(folder / f"{kind}.ring.gz"))


def serve(sock: eventlet.greenio.GreenSocket, conf: Path) -> None:
    app = loadapp(str(conf), global_conf={"log_name": conf.stem})
    # Capitalised, "ETag" would become "Etag", which some S3 clients don't know.
    wsgi.server(sock, app, utils.NullLogger(), protocol=SwiftHttpProtocol, capitalize_response_headers=False)


def main(folder: Path) -> None:
    (folder / "devices" / "d").mkdir(parents=True)
    (folder / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_suffix = s\nswift_hash_path_prefix = p\n"
        "[storage-policy:0]\nname = only\ndefault = yes\n"
    )
    utils.set_swift_dir(str(folder))
    for kind in ("account", "container", "object"):
        sock = eventlet.listen(("127.0.0.1", 0))
        ring(folder, kind, sock.getsockname()[1])
        conf = folder / f"{kind}.conf"
        conf.write_text(BACKEND.format(folder=folder, kind=kind))
        eventlet.spawn(serve, sock, conf)
    front = eventlet.listen(("127.0.0.1", 0))
    conf = folder / "proxy.conf"
    conf.write_text(PROXY.format(folder=folder))
    logging.disable()
    print(f"http://127.0.0.1:{front.getsockname()[1]}", flush=True)
    serve(front, conf)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

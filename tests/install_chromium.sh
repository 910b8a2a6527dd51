#!/bin/sh
# The dashboard's tests look at it in a real browser: Debian's chromium, driven by playwright.
set -eu
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing chromium by apt-get: the dashboard's tests need a browser"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
else
    echo "chromium is missing, and the dashboard's tests need it. Install your system's package of that name," >&2
    echo "on Debian as root: apt-get install chromium" >&2
    exit 1
fi

"""Passwords that are hard to hide."""

from __future__ import annotations

MARK = "zqx"  # in every part of a secret
SECRETS = [
    "zqx1",
    "zqx1@zqx2",
    "zqx1:zqx2",
    "zqx1/zqx2",
    "/zqx1",
    "zqx1%40zqx2%2Fzqx3",
    "zqxü",
    "zqx1 zqx2",
    "zqx#zqx?zqx&zqx",
    "@zqx@",
]

"""What people read: of an address no part of a secret, and all the rest; of parameters each value."""

from __future__ import annotations

import pytest
from support.secrets import MARK, SECRETS

from searchlib.report.exhibits.plots import literal
from searchlib.text import describe, mask


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "form",
    [
        "postgresql://ann:{}@host:5432/db",
        "postgresql+psycopg2://ann:{}@host/db?sslmode=require",
        "postgresql:/ann:{}@host/db",
        "redis://:{}@host/0",
        "https://ann:{}@mlflow.example.org/path",
    ],
)
def test_passwords_of_any_spelling_are_masked(form: str, secret: str) -> None:
    shown = mask(form.format(secret))
    assert MARK not in shown
    assert "***" in shown
    assert "host" in shown or "mlflow.example.org" in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql+psycopg2://ann:zqx:cr/et@host:5432/db", "postgresql+psycopg2://ann:***@host:5432/db"),
        ("redis://:zqx@host/0", "redis://:***@host/0"),
        ("https://zqxtoken@host/path", "https://***@host/path"),
        ("postgresql://host/db?user=ann&password=zqx1&sslmode=require", "postgresql://host/db?user=ann&password=***&sslmode=require"),
        ("postgresql://host/db?sslpassword=zqx1", "postgresql://host/db?sslpassword=***"),
        ("https://host/api?token=zqx1&page=2", "https://host/api?token=***&page=2"),
        ("s3://bucket?aws_secret_access_key=zqx", "s3://bucket?aws_secret_access_key=***"),
        ("host=127.0.0.1 password=zqx1 user=ann", "host=127.0.0.1 password=*** user=ann"),
        ("can't reach 'http://ann:zqx@zqx@host:1/db' (refused)", "can't reach 'http://ann:***@host:1/db' (refused)"),
        ("ann:zqx1@host/db", "ann:***@host/db"),
        ("postgresql://ann@host/db", "postgresql://ann@host/db"),
        ("postgresql://host:5432/db", "postgresql://host:5432/db"),
        ("sqlite:////home/ann/study.db", "sqlite:////home/ann/study.db"),
        ("/home/ann/a b: c.journal", "/home/ann/a b: c.journal"),
        ("databricks", "databricks"),
    ],
)  # fmt: skip
def test_what_is_masked_and_what_is_not(text: str, shown: str) -> None:
    assert mask(text) == shown


def test_no_hidden_layer_is_not_overlooked() -> None:
    assert describe({"hidden": "", "activation": "relu", "learning_rate": 0.03125}) == "(), relu, learning_rate 0.0312"
    assert (literal(""), literal("<b>"), literal(0)) == ("()", "&lt;b&gt;", "0")

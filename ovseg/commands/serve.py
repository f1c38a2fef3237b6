"""`serve`: the web page."""

import argparse
import os
import socket
import sys
from argparse import ArgumentTypeError
from ipaddress import ip_network
from pathlib import Path

import httpx

from ovseg.assets import SHIPPED, own_temporary_folder, variable
from ovseg.commands.common import add_networks, models_of
from ovseg.commands.values import whole
from ovseg.files import check_folder

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
"""Variables that say by which proxy a server is reached, in small or capital letters."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of `serve`. Those of the address are Gradio's variables where they are not given."""
    parser.add_argument(
        "--host", default=os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1",
        help="address to listen on (default: GRADIO_SERVER_NAME, or 127.0.0.1, this machine alone)",
    )  # fmt: skip
    parser.add_argument("--port", type=whole(0, 65535), help="(default: GRADIO_SERVER_PORT, or 7860)")
    parser.add_argument(
        "--mcp", action="store_true", help="also serve segment, compare, caption and generate to MCP clients"
    )
    add_networks(parser, SHIPPED, several=True)


def run(options: argparse.Namespace) -> None:
    """Serve the page until it is stopped."""
    check_host(options.host)
    models = models_of(options)
    prepare_environment(options.host)
    mcp = options.mcp or bool(os.environ.get("SPACE_ID"))  # a Space serves MCP clients, as its tags say
    from ovseg.demo import launch  # here, because `serve --help` does not need gradio

    launch(models, options.host, _port() if options.port is None else options.port, mcp=mcp)


def _port() -> int:
    try:
        return whole(0, 65535)(os.environ.get("GRADIO_SERVER_PORT") or "7860")
    except ArgumentTypeError as error:
        raise ValueError(f"The variable GRADIO_SERVER_PORT is no port: {error}") from error


def check_host(host: str) -> None:
    """Pass if this machine can listen on an address: Gradio takes another one for a port that is used."""
    try:
        family, kind, *_, address = socket.getaddrinfo(host.strip("[]"), 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as tried:
            tried.bind(address)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"The host must be an address of this machine, or its name, but {host!r} is not: {why}.") from None


def prepare_environment(host: str) -> None:
    """Let Gradio reach the page itself past every proxy, and keep its files in a folder of this user alone.

    It must be called before Gradio is imported.
    """
    if "gradio" not in sys.modules:
        os.environ.setdefault("GRADIO_TEMP_DIR", str(own_temporary_folder() / "gradio"))
    if folder := os.environ.get("GRADIO_TEMP_DIR"):
        try:
            check_folder(Path(folder))
        except ValueError as error:
            raise ValueError(f"{error} The variable GRADIO_TEMP_DIR sets that.") from error
    # Whose word on a visitor's address is taken. Nothing reaches a Space but through the hub's own proxy.
    os.environ["FORWARDED_ALLOW_IPS"] = _proxies() or ("10.0.0.0/8" if os.environ.get("SPACE_ID") else "")
    drop_unusable_proxies()
    near = {"localhost", "127.0.0.1", "::1", host.strip("[]")}
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(sorted({*filter(None, os.environ.get(name, "").split(",")), *near}))


def _proxies() -> str:
    named = variable("OVSEG_PROXIES") or ""
    for part in filter(None, named.split(",")):
        try:
            ip_network(part.strip(), strict=False)
        except ValueError:
            raise ValueError(f"The variable OVSEG_PROXIES must hold addresses or networks, but holds {part!r}.") from None
    return named


def drop_unusable_proxies() -> None:
    """Take out of the environment what no httpx client can be made with, and Gradio makes one to reach the page itself."""
    given = {name: os.environ.pop(name) for name in [*os.environ] if name.lower() in PROXIES}
    for name, value in given.items():
        parts = value.split(",") if name.lower() == "no_proxy" else [value]
        usable = [part for part in parts if _is_usable(name, part)]
        if usable:
            os.environ[name] = ",".join(usable)


def _is_usable(name: str, value: str) -> bool:
    """Whether httpx takes this value of a variable; if not, that is printed. None of `PROXIES` may be set."""
    os.environ[name] = value
    try:
        httpx.Client(verify=False).close()
        return True
    except (ImportError, ValueError, httpx.InvalidURL) as error:  # the package socksio may not be installed
        print(f"ovseg: note: {value!r} of {name} is not used: {error}", file=sys.stderr)
        return False
    finally:
        del os.environ[name]

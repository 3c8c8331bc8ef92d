"""A small MCP server for the tests: `python -m tests.mcp_server`, or with a port over HTTP."""

from __future__ import annotations

import os
import sys
import time

from mcp.server import MCPServer

server = MCPServer("clock")


@server.tool()
def server_time(zone: str = "UTC") -> str:
    """Tell the time in a zone."""
    return f"5 PM in {zone}"


@server.tool()
def fails() -> str:
    """Fail."""
    raise ValueError("the clock stopped")


@server.tool()
def sleeps(seconds: float) -> str:
    """Take long."""
    time.sleep(seconds)
    return "awake"


@server.tool()
def dies() -> str:
    """End the server."""
    os._exit(3)


@server.tool()
def process() -> str:
    """Tell which process this is."""
    return str(os.getpid())


@server.tool()
def whoami() -> str:
    """Tell a variable that is nobody's business."""
    return os.environ.get("WHISPERFUSION_TOKEN", "unknown")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run("stdio")

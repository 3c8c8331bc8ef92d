"""What serves: the page, the WebSocket ports, who may connect, TLS, the startup banner."""

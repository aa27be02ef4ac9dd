"""Linux's own AF_VSOCK, which a later parent may be reached by."""

import socket
import threading

VMADDR_CID_LOCAL = 1


def test_real_vsock_carries_bytes_to_this_host_itself() -> None:
    """AF_VSOCK's loopback is there: a listener on any CID is reached at CID 1."""
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as listener:
        listener.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY))
        listener.listen()
        listener.settimeout(20)
        port = listener.getsockname()[1]
        heard: list[bytes] = []

        def serve() -> None:
            stream, _ = listener.accept()
            with stream:
                heard.append(stream.recv(5))

        server = threading.Thread(target=serve)
        server.start()
        with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as client:
            client.settimeout(20)
            client.connect((VMADDR_CID_LOCAL, port))
            client.sendall(b"hello")
            server.join(20)
    assert heard == [b"hello"]

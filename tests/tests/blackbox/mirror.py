# Tells whoever asks which bytes it was asked with, and how it tells them depends on the path.
import os, socket, threading

asked, lock, go = [], threading.Lock(), threading.Event()

def body_of(fields, stream):
    if "content-length" in fields:
        return stream.read(int(fields["content-length"]))
    body = b""
    while fields.get("transfer-encoding") == "chunked":
        size = int(stream.readline().split(b";")[0], 16)
        body += stream.read(size)
        stream.readline()
        if size == 0:
            break
    return body

def request_of(stream):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        if not line:
            return None
        head += line
    lines = head.decode("latin-1").split("\r\n")
    fields = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines[1:])}
    return lines[0].split(" "), head + body_of(fields, stream)

def answer_to(path, told):
    size, ok = b"Content-Length: %d\r\n" % len(told), b"HTTP/1.1 200 OK\r\n"
    if path == "/chunked":
        half = len(told) // 2
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (told[:half], told[half:], b""))
        return ok + b"Transfer-Encoding: chunked\r\n\r\n" + chunks
    if path == "/end":
        return ok + b"\r\n" + told
    if path == "/early":
        return b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n" + ok + size + b"\r\n" + told
    if path == "/twice":
        return ok + size + size + b"\r\n" + told
    if path == "/differ":
        return ok + size + b"Content-Length: 1\r\n\r\n" + told
    if path == "/identity":
        return ok + b"Transfer-Encoding: identity\r\n" + size + b"\r\n" + told
    return ok + size + b"\r\n" + told

def serve(connection):
    with connection, connection.makefile("rb") as stream:
        while request := request_of(stream):
            (method, target, _), told = request
            path = target.split("?")[0]
            with lock:
                asked.append(target)
                so_far = "\n".join(asked).encode()
            if path == "/asked":
                told = so_far
            if path == "/think":
                go.wait()
            if path == "/go":
                go.set()
            answer = answer_to(path, told)
            if method == "HEAD":
                answer = answer[: answer.index(b"\r\n\r\n") + 4]
            connection.sendall(answer)
            if path == "/end":
                return

listener = socket.create_server(("0.0.0.0", int(os.environ["PORT"])), backlog=1024)
while True:
    connection, _ = listener.accept()
    threading.Thread(target=serve, args=(connection,), daemon=True).start()

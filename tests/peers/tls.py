"""TLS in front of a plain port, byte for byte: `tls.py serve PORT CERT KEY TARGET_PORT`."""

import asyncio
import ssl
import sys


async def pipe(reader, writer, half):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    if half and writer.can_write_eof():
        writer.write_eof()
    else:
        writer.close()


async def carry(reader, writer):
    try:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[5]))
    except OSError:
        writer.close()
        return
    await asyncio.gather(pipe(reader, there_writer, True), pipe(there_reader, writer, False))
    there_writer.close()


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[3], sys.argv[4])
    server = await asyncio.start_server(carry, "127.0.0.1", int(sys.argv[2]), ssl=context)
    print("listening", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())

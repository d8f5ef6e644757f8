/** The services of a machine at home: a page, an upload that answers with as many bytes, an open port, and a UDP echo. */
import { createSocket } from "node:dgram"
import { createServer } from "node:http"
import { createServer as createTcp } from "node:net"

createServer((request, response) => {
  if (request.url === "/") return void response.end("hello from home")
  let bytes = 0
  request.on("data", (chunk: Buffer) => (bytes += chunk.length))
  request.on("end", () => response.end(Buffer.alloc(Math.max(bytes, 1), 7)))
}).listen(8080, "127.0.0.1", () => process.stdout.write("listening\n"))

// Not exposed: a port at all addresses of the machine.
createTcp((socket) => socket.on("error", () => {}).end("private")).listen(9999, "0.0.0.0")

const echo = createSocket("udp4").bind(8081, "127.0.0.1")
echo.on("message", (payload, { address, port }) => echo.send(payload, port, address))

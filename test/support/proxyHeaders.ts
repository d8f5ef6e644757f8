/** Encodes PROXY protocol headers, which `src/proxyProtocol/parseHeader.ts` decodes. */
import { Effect } from "effect"
import { connect, isIPv6, type Socket, SocketAddress } from "node:net"
import { type RawResponse, readResponse } from "./rawHttp.ts"

/** A second loopback address, from which the load balancer connects. */
export const balancer = "127.0.0.2"

export const trustedProxies = (...addresses: ReadonlyArray<string>) => ({
  trustedProxies: addresses.map((address) => ({ address, length: 32, family: "ipv4" as const }))
})

/** A `createConnection` function: connects from the load balancer and sends the header first. */
export const connectThroughProxy = (port: number, header: Buffer, from = balancer) => (): Socket => {
  const socket = connect({ port, host: "127.0.0.1", localAddress: from })
  socket.write(header)
  return socket
}

/** Waits until servers in this process have read what was written before. */
const eventLoopTurns = async () => {
  for (let turn = 0; turn < 3; turn += 1) await new Promise((done) => setImmediate(done))
}

/** Sends the pieces so that the server reads each one separately, and returns the response when the connection ends. */
export const sendPieces = (port: number, from: string, ...pieces: ReadonlyArray<Buffer>): Effect.Effect<RawResponse> =>
  Effect.promise(() => {
    const socket = connect({ port, host: "127.0.0.1", localAddress: from, noDelay: true })
    socket.on("connect", async () => {
      for (const piece of pieces) {
        if (!socket.writable) return
        socket.write(piece)
        await eventLoopTurns()
      }
    })
    return readResponse(socket)
  })

export interface Endpoint {
  readonly address: string
  readonly port: number
}

const otherServer: Endpoint = { address: "192.0.2.10", port: 443 }
const otherServer6: Endpoint = { address: "2001:db8::10", port: 443 }
export const serverFor = ({ address }: Endpoint) => isIPv6(address) ? otherServer6 : otherServer

export const v1 = (client: Endpoint, server: Endpoint = serverFor(client)): Buffer =>
  Buffer.from(
    `PROXY TCP${isIPv6(client.address) ? 6 : 4} ${client.address} ${server.address} ${client.port} ${server.port}\r\n`
  )

export const v1Unknown = Buffer.from("PROXY UNKNOWN\r\n")

/** A version 2 header with `more` (for example TLVs) after the addresses. */
export const v2 = (
  client: Endpoint,
  more: Uint8Array = Buffer.alloc(0),
  server: Endpoint = serverFor(client)
): Buffer => {
  const family = isIPv6(client.address) ? 0x21 : 0x11
  return v2Raw(
    0x21,
    family,
    Buffer.concat([bytesOf(client), bytesOf(server), portOf(client), portOf(server), more])
  )
}

export const v2Raw = (command: number, family: number, rest: Uint8Array): Buffer => {
  const fixed = Buffer.from("0d0a0d0a000d0a515549540a00000000", "hex")
  fixed[12] = command
  fixed[13] = family
  fixed.writeUInt16BE(rest.length, 14)
  return Buffer.concat([fixed, rest])
}

/** The LOCAL command: a health check of the proxy. */
export const v2Local = v2Raw(0x20, 0x00, Buffer.alloc(0))

function portOf({ port }: Endpoint): Buffer {
  return Buffer.from([port >> 8, port & 0xff])
}

/** Parses IPv6 addresses without the code under test. */
function bytesOf({ address }: Endpoint): Buffer {
  if (!isIPv6(address)) return Buffer.from(address.split(".").map(Number))
  const plain = new SocketAddress({ address, family: "ipv6" }).address.replace(
    /(\d+)\.(\d+)\.(\d+)\.(\d+)$/u,
    (_, ...octets: Array<string>) =>
      Buffer.from(octets.slice(0, 4).map(Number)).toString("hex").replace(/^.{4}/u, "$&:")
  )
  const [head = "", tail] = plain.split("::", 2)
  const groups = (text: string | undefined) => (text ?? "").split(":").filter((group) => group !== "")
  const zeros = Array.from({ length: 8 - groups(head).length - groups(tail).length }, () => "0")
  return Buffer.from(
    [...groups(head), ...zeros, ...groups(tail)].map((group) => group.padStart(4, "0")).join(""),
    "hex"
  )
}

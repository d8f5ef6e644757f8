/** Headers of the PROXY protocol as proxies write them: the other way round of `src/server/ingress/proxyProtocol.ts`. */
import { Effect } from "effect"
import { connect, isIPv6, type Socket, SocketAddress } from "node:net"
import { answerOf, type RawAnswer } from "./raw.ts"

/** A second address of this machine's loopback, from which a balancer connects. */
export const balancer = "127.0.0.2"

export const trusting = (...addresses: ReadonlyArray<string>) => ({
  trustedProxies: addresses.map((address) => ({ address, length: 32, family: "ipv4" as const }))
})

/** For `createConnection`: a socket from the balancer that begins with these bytes. */
export const through = (port: number, header: Buffer, from = balancer) => (): Socket => {
  const socket = connect({ port, host: "127.0.0.1", localAddress: from })
  socket.write(header)
  return socket
}

/** One event-loop turn and more: servers of this process have read what was written before it. */
const turns = async () => {
  for (let turn = 0; turn < 3; turn += 1) await new Promise((done) => setImmediate(done))
}

/** Sends the pieces one after the other, each read by itself, and gives all that is answered until the connection's end. */
export const send = (port: number, from: string, ...pieces: ReadonlyArray<Buffer>): Effect.Effect<RawAnswer> =>
  Effect.promise(() => {
    const socket = connect({ port, host: "127.0.0.1", localAddress: from, noDelay: true })
    socket.on("connect", async () => {
      for (const piece of pieces) {
        if (!socket.writable) return
        socket.write(piece)
        await turns()
      }
    })
    return answerOf(socket)
  })

export interface End {
  readonly address: string
  readonly port: number
}

const elsewhere: End = { address: "192.0.2.10", port: 443 }
const elsewhere6: End = { address: "2001:db8::10", port: 443 }
const serverFor = ({ address }: End) => isIPv6(address) ? elsewhere6 : elsewhere

export const v1 = (client: End, server: End = serverFor(client)): Buffer =>
  Buffer.from(
    `PROXY TCP${isIPv6(client.address) ? 6 : 4} ${client.address} ${server.address} ${client.port} ${server.port}\r\n`
  )

export const v1Unknown = Buffer.from("PROXY UNKNOWN\r\n")

/** With TLVs or anything else behind the addresses. */
export const v2 = (client: End, more: Uint8Array = Buffer.alloc(0), server: End = serverFor(client)): Buffer => {
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

/** A proxy that asks whether anybody is there. */
export const v2Local = v2Raw(0x20, 0x00, Buffer.alloc(0))

function portOf({ port }: End): Buffer {
  return Buffer.from([port >> 8, port & 0xff])
}

/** Takes an address of IPv6 apart by itself, so that it shares nothing with what is tested. */
function bytesOf({ address }: End): Buffer {
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

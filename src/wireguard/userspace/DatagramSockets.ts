/** The UDP sockets of a userspace device: one port for IPv4 and, where the system has it, IPv6. */
import { createSocket, type Socket } from "node:dgram"
import { once } from "node:events"
import type { Endpoint } from "#wireguard/Device.ts"

/** The system grants less without privileges (`net.core.rmem_max`). A burst that does not fit is lost and sent again by TCP. */
const socketBufferBytes = 4 * 1024 * 1024

/** Attempts to find a port that is free for both families, if the port is not given. */
const maxPortAttempts = 16

export class DatagramSockets {
  readonly port: number
  readonly #ipv4: Socket
  readonly #ipv6: Socket | undefined

  private constructor(ipv4: Socket, ipv6: Socket | undefined) {
    this.#ipv4 = ipv4
    this.#ipv6 = ipv6
    this.port = ipv4.address().port
  }

  /** Binds all addresses of the machine. Port 0 chooses a free one. Rejects with the system's error, such as `EADDRINUSE`. */
  static async open(
    port: number,
    onDatagram: (datagram: Buffer, from: Endpoint) => void,
    attempts = maxPortAttempts
  ): Promise<DatagramSockets> {
    const ipv4 = await bind("udp4", port)
    const ipv6 = await bind("udp6", ipv4.address().port).catch((error: NodeJS.ErrnoException) => error)
    if (ipv6 instanceof Error && ipv6.code === "EADDRINUSE") {
      ipv4.close()
      if (port !== 0 || attempts === 1) throw ipv6
      return await DatagramSockets.open(port, onDatagram, attempts - 1)
    }
    // A machine without IPv6 serves IPv4 only.
    const sockets = new DatagramSockets(ipv4, ipv6 instanceof Error ? undefined : ipv6)
    sockets.#receive(onDatagram)
    return sockets
  }

  /**
   * Sends at once. A datagram that the system refuses, for example because there is no route, counts as lost on the way. A callback
   * for each datagram would cost a tick. The caller must not change the datagram afterwards, because the system can accept it later.
   */
  send(datagram: Buffer, to: Endpoint): void {
    const socket = to.host.includes(":") ? this.#ipv6 : this.#ipv4
    socket?.send(datagram, 0, datagram.length, to.port, to.host)
  }

  close(): void {
    this.#ipv4.close()
    this.#ipv6?.close()
  }

  #receive(onDatagram: (datagram: Buffer, from: Endpoint) => void): void {
    for (const socket of [this.#ipv4, this.#ipv6]) {
      socket?.on("message", (datagram, { address, port }) => onDatagram(datagram, { host: address, port }))
      // A socket reports the loss of its interface, which is no reason to end.
      socket?.on("error", () => {})
    }
  }
}

async function bind(type: "udp4" | "udp6", port: number): Promise<Socket> {
  const family = type === "udp4" ? 4 : 6
  const socket = createSocket({
    type,
    ...type === "udp6" ? { ipv6Only: true } : {},
    recvBufferSize: socketBufferBytes,
    sendBufferSize: socketBufferBytes,
    // Endpoints are addresses already. Node's own lookup would cost a turn of the event loop for each datagram.
    lookup: (host, _options, callback) => callback(null, host, family)
  })
  const listening = once(socket, "listening")
  socket.bind({ port, address: type === "udp4" ? "0.0.0.0" : "::" })
  await listening
  return socket
}

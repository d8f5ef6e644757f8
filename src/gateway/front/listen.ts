/** Opens listening TCP sockets and explains why one cannot be opened. */
import { createServer, type Server, type Socket } from "node:net"

export interface ListenOptions {
  readonly port: number
  readonly onConnection: (socket: Socket) => void
  /** Receives errors of a listening socket, for example too many open files. */
  readonly onError: (error: NodeJS.ErrnoException) => void
}

/** Connections that the kernel keeps until the program accepts them. The kernel's own limit is `net.core.somaxconn`. */
const backlog = 4_096
const keepAliveMillis = 60_000

/** Listens on every address, or on none: rejects with a `ListenError`. Port 0 chooses one port for all addresses. */
export const listenOnAll = async (
  addresses: ReadonlyArray<string>,
  options: ListenOptions
): Promise<ReadonlyArray<Server>> => {
  const servers: Array<Server> = []
  let { port } = options
  for (const address of addresses) {
    try {
      // One after the other, because the first one chooses the port.
      // oxlint-disable-next-line no-await-in-loop
      const server = await listen(address, { ...options, port })
      servers.push(server)
      port = portOf(server)
    } catch (error) {
      if (isFamilyMissing(error as NodeJS.ErrnoException, address, addresses)) continue
      for (const server of servers) server.close()
      throw new ListenError(address, port, error as NodeJS.ErrnoException)
    }
  }
  return servers
}

export const portOf = (server: Server): number => {
  const address = server.address()
  return typeof address === "object" && address !== null ? address.port : 0
}

/** A machine without IPv6 serves IPv4 only, if the operator did not choose an address. */
export const isFamilyMissing = (
  { code }: NodeJS.ErrnoException,
  address: string,
  addresses: ReadonlyArray<string>
): boolean => address === "::" && addresses.includes("0.0.0.0") && (code === "EAFNOSUPPORT" || code === "EADDRNOTAVAIL")

export class ListenError extends Error {
  readonly address: string
  readonly port: number
  readonly code: string

  constructor(address: string, port: number, { code = "unknown error" }: NodeJS.ErrnoException) {
    super(`cannot listen on ${addressAndPort(address, port)}: ${causes[code] ?? code}`)
    this.address = address
    this.port = port
    this.code = code
  }
}

const causes: Readonly<Record<string, string>> = {
  EADDRINUSE: "another program uses the port",
  EACCES: "permission denied",
  EADDRNOTAVAIL: "no interface of this machine has the address",
  EMFILE: "too many open files"
}

/** The next step for the operator of a port that has an option. */
export const listenRemedy = ({ code }: ListenError, option: string): string =>
  (remedies[code] ?? ((name) => `choose another port with ${name}`))(option)

const remedies: Readonly<Record<string, (option: string) => string>> = {
  EADDRINUSE: (option) => `stop that program, or choose another port with ${option}`,
  EACCES: (option) =>
    `choose a port above 1023 with ${option}, or allow low ports with ` +
    "`sysctl net.ipv4.ip_unprivileged_port_start=80` or the capability CAP_NET_BIND_SERVICE",
  EADDRNOTAVAIL: () => "choose another address with --bind"
}

const addressAndPort = (address: string, port: number): string =>
  address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`

function listen(address: string, { onConnection, onError, port }: ListenOptions): Promise<Server> {
  const { promise, reject, resolve } = Promise.withResolvers<Server>()
  const server = createServer({
    allowHalfOpen: true,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: keepAliveMillis
  })
  server.once("error", reject)
  server.listen({ host: address, port, backlog, ipv6Only: true }, () => {
    server.off("error", reject).on("error", onError).on("connection", onConnection)
    resolve(server)
  })
  return promise
}
